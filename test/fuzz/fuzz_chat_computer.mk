SRCS_fuzz_chat_computer = ../../gateway/chat/computer.c
LIBS_fuzz_chat_computer = -ljansson
