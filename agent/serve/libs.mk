AGENT_LIBS := -lssh -lhttp_parser $(AGENT_LIBS)
