SRCS_test_archive := ../../gateway/provisioner/archive.c
LIBS_test_archive := -larchive
