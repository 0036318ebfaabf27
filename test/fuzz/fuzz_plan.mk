SRCS_fuzz_plan := ../../gateway/provisioner/plan.c ../../gateway/provisioner/plan_agent.c ../../gateway/provisioner/plan_data.c ../../gateway/provisioner/graph.c
LIBS_fuzz_plan := -ljansson
