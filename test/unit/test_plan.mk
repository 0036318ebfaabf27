SRCS_test_plan := $(addprefix ../../gateway/provisioner/,graph.c plan_agent.c plan_data.c)
LIBS_test_plan := -ljansson
