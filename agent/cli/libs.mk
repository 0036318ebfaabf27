# libssh's archive wants these of its own.
# libarchive writes zip files with ciphers of nettle.
AGENT_LIBS := -lssh -larchive -lnettle $(AGENT_LIBS)
