AGENT_LIBS := -lssh -lhttp_parser -lyaml $(AGENT_LIBS)
