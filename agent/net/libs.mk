AGENT_LIBS := -lhttp_parser $(AGENT_LIBS)
