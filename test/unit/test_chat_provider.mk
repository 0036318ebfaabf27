SRCS_test_chat_provider = $(addprefix ../../gateway/chat/,completions.c responses.c anthropic.c google.c bedrock.c converse.c awsprofile.c sigv4.c stream.c) ../../agent/wire/sse.c
LIBS_test_chat_provider = -ljansson -lsodium
