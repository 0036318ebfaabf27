SRCS_test_template := $(addprefix ../../gateway/provisioner/,hcl_value.c hcl_parse.c hcl_eval.c hcl_func.c provider.c initscript.c archive.c)
LIBS_test_template := -ljansson -larchive -lpcre2-8 -lcrypto -lm
