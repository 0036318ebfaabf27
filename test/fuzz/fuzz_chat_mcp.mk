SRCS_fuzz_chat_mcp = $(addprefix ../../gateway/chat/,mcpwire.c) ../../agent/wire/sse.c
LIBS_fuzz_chat_mcp = -ljansson -lcurl
