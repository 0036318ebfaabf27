LIBS_test_chat_awsprofile = -ljansson
