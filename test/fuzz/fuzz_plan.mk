SRCS_fuzz_plan := ../../gateway/provisioner/plan.c
LIBS_fuzz_plan := -ljansson
