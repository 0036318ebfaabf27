SRCS_fuzz_chat_aws = ../../gateway/chat/awsprofile.c
LIBS_fuzz_chat_aws = -ljansson
