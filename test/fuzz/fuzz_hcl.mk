SRCS_fuzz_hcl := $(addprefix ../../gateway/provisioner/,template.c hcl_value.c hcl_parse.c hcl_eval.c hcl_func.c provider.c initscript.c archive.c)
LIBS_fuzz_hcl := -ljansson -larchive -lpcre2-8 -lcrypto -lm
