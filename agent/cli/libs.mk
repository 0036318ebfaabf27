# libssh's archive wants these of its own.
AGENT_LIBS := -lssh -larchive $(AGENT_LIBS)
