SRCS_fuzz_chat_mcp = $(addprefix ../../gateway/chat/,mcpwire.c sse.c)
LIBS_fuzz_chat_mcp = -ljansson -lcurl
