LIBS_test_sshforward := -lssh
