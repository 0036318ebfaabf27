SRCS_test_chat_chain = $(addprefix ../../gateway/chat/,provider.c completions.c responses.c anthropic.c google.c bedrock.c converse.c awsprofile.c sigv4.c stream.c)
LIBS_test_chat_chain = -ljansson -lsodium
