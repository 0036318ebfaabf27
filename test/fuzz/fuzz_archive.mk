SRCS_fuzz_archive := ../../gateway/provisioner/archive.c
LIBS_fuzz_archive := -larchive
