SRCS_fuzz_chat_anthropic = $(addprefix ../../gateway/chat/,provider.c completions.c responses.c anthropic.c google.c bedrock.c converse.c awsprofile.c sigv4.c stream.c) ../../agent/wire/sse.c
LIBS_fuzz_chat_anthropic = -ljansson -lsodium
