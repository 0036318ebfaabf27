PG_CONFIG ?= pg_config
SRCS_fuzz_json := server_json.c
CFLAGS_fuzz_json = -isystem $(shell $(PG_CONFIG) --includedir-server) -I../../extension -Wno-unused-parameter
LIBS_fuzz_json = -ljansson $(addprefix $(shell $(PG_CONFIG) --pkglibdir)/,libpgcommon.a libpgport.a)
