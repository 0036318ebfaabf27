/*
 * template.c -- templates push, list, versions, init, delete.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ARCHIVE ((size_t) 100 << 20) /* what the server takes */

/* The template to begin with, as the server's example has it: a file of it, within the program. */
#define STARTER "sandbox"
#define STARTER_FILE(name, file) \
	__asm__(".pushsection .rodata\n.globl " #name "\n.hidden " #name "\n" #name ":\n.incbin \"../gateway/provisioner/starter/" file "\"\n" \
			".globl " #name "_end\n.hidden " #name "_end\n" #name "_end:\n.popsection"); \
	extern const char name[]; \
	extern const char name##_end[]

STARTER_FILE(starter_main, "main.tf");
STARTER_FILE(starter_readme, "README.md");

typedef struct Packer
{
	struct archive *archive;
	size_t total;
	bool has_tf;
} Packer;

/* What Terraform and git keep for themselves does not travel. */
static bool
is_left_out(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, ".git") == 0 ||
		strcmp(name, ".terraform") == 0 || strstr(name, ".tfstate") != NULL ||
		strcmp(name, ".terraform.tfstate.lock.info") == 0;
}

static void
pack_file(Packer *packer, const char *path, const char *inside, const struct stat *st)
{
	struct archive_entry *entry = archive_entry_new();
	char buffer[65536];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		cli_fail("could not read %s: %s", path, strerror(errno));
	packer->total += (size_t) st->st_size;
	if (packer->total > MAX_ARCHIVE)
		cli_fail("the template is larger than %zu MiB", MAX_ARCHIVE >> 20);
	archive_entry_set_pathname(entry, inside);
	archive_entry_set_size(entry, st->st_size);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, st->st_mode & 0777);
	if (archive_write_header(packer->archive, entry) != ARCHIVE_OK)
		cli_fail("could not pack %s: %s", path, archive_error_string(packer->archive));
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		archive_write_data(packer->archive, buffer, (size_t) n);
	close(fd);
	archive_entry_free(entry);
}

static void
pack_dir(Packer *packer, const char *dir, const char *prefix)
{
	DIR *stream = opendir(dir);
	struct dirent *item;

	if (stream == NULL)
		cli_fail("could not read %s: %s", dir, strerror(errno));
	while ((item = readdir(stream)) != NULL)
	{
		char *path = cli_format("%s/%s", dir, item->d_name);
		char *inside = cli_format("%s%s", prefix, item->d_name);
		size_t len = strlen(item->d_name);
		struct stat st;

		if (is_left_out(item->d_name) || lstat(path, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode))
			pack_dir(packer, path, cli_format("%s/", inside));
		else if (S_ISREG(st.st_mode))
		{
			packer->has_tf = packer->has_tf || (len > 3 && strcmp(item->d_name + len - 3, ".tf") == 0) ||
				(len > 8 && strcmp(item->d_name + len - 8, ".tf.json") == 0);
			pack_file(packer, path, inside, &st);
		}
		else
			cli_note("left out: %s is neither a file nor a folder", path);
	}
	closedir(stream);
}

/* A tar archive of dir in *archive; returns its size. */
static size_t
pack(const char *dir, char **archive)
{
	Packer packer = {.archive = archive_write_new()};
	size_t capacity = MAX_ARCHIVE + ((size_t) 4 << 20);
	size_t used = 0;

	*archive = malloc(capacity);
	if (*archive == NULL)
		cli_fail("out of memory");
	archive_write_set_format_ustar(packer.archive);
	archive_write_open_memory(packer.archive, *archive, capacity, &used);
	pack_dir(&packer, dir, "");
	if (archive_write_close(packer.archive) != ARCHIVE_OK)
		cli_fail("could not pack %s: %s", dir, archive_error_string(packer.archive));
	archive_write_free(packer.archive);
	if (!packer.has_tf)
		cli_fail("%s holds no .tf file; \"coder templates init\" writes a template to begin with", dir);
	return used;
}

static json_t *
variables_of(Cli *cli)
{
	const char *values[CLI_MAX_VALUES];
	int n = cli_flag_all(cli, "variable", values, CLI_MAX_VALUES);
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
	{
		size_t len = strcspn(values[i], "=");

		if (values[i][len] != '=')
			cli_fail("--variable %s: NAME=VALUE expected", values[i]);
		json_array_append_new(list,
							  json_pack("{s:s%, s:s}",
										"name",
										values[i],
										len,
										"value",
										values[i] + len + 1));
	}
	return list;
}

static json_t *
create_version(Cli *cli, const json_t *organization, const json_t *template, const char *file_id)
{
	const char *name = cli_flag(cli, "name");
	const char *message = cli_flag(cli, "message");
	json_t *body = json_pack("{s:s, s:s, s:s, s:o, s:{}}",
							 "storage_method",
							 "file",
							 "provisioner",
							 "terraform",
							 "file_id",
							 file_id,
							 "user_variable_values",
							 variables_of(cli),
							 "tags");

	if (name != NULL)
		json_object_set_new(body, "name", json_string(name));
	if (message != NULL)
		json_object_set_new(body, "message", json_string(message));
	if (template != NULL)
		json_object_set_new(body, "template_id", json_string(js_text(template, "id")));
	return cli_send(cli,
					"POST",
					cli_format("/api/v2/organizations/%s/templateversions", js_text(organization, "id")),
					body);
}

static char *
template_name(Cli *cli, const char *dir)
{
	char *real = realpath(dir, NULL);
	const char *base;

	if (cli_arg(cli, 0) != NULL)
		return cli_format("%s", cli_arg(cli, 0));
	if (real == NULL)
		cli_fail("could not read %s: %s", dir, strerror(errno));
	base = strrchr(real, '/');
	return cli_format("%s", base + 1);
}

static int
run_push(Cli *cli)
{
	const char *dir = cli_flag(cli, "directory") ? cli_flag(cli, "directory") : ".";
	const char *activate = cli_flag(cli, "activate");
	char *name;
	char *archive;
	size_t size;
	json_t *organization;
	json_t *template = NULL;
	json_t *version;
	CliAnswer existing;
	CliAnswer file;

	cli_need_login(cli);
	name = template_name(cli, dir);
	organization = cli_organization(cli);
	existing = cli_call(cli,
						"GET",
						cli_format("/api/v2/organizations/%s/templates/%s",
								   js_text(organization, "id"),
								   cli_escape(name)),
						NULL);
	if (existing.status == 200)
		template = existing.json;
	else if (existing.status != 404)
		cli_fail_answer(&existing);

	size = pack(dir, &archive);
	if (!cli_confirm(cli, cli_format("Upload %s (%zu kB) as template \"%s\"?", dir, size / 1024, name)))
		return 1;
	file = cli_call_raw(cli, "POST", "/api/v2/files", "application/x-tar", archive, size);
	if (file.status != 200 && file.status != 201)
		cli_fail_answer(&file);
	version = create_version(cli, organization, template, js_text(file.json, "hash"));
	if (!cli_watch_version(cli, js_text(version, "id")))
		return 1;

	if (template == NULL)
		cli_send(cli,
				 "POST",
				 cli_format("/api/v2/organizations/%s/templates", js_text(organization, "id")),
				 json_pack("{s:s, s:s}", "name", name, "template_version_id", js_text(version, "id")));
	else if (activate == NULL || strcmp(activate, "false") != 0)
		cli_send(cli,
				 "PATCH",
				 cli_format("/api/v2/templates/%s/versions", js_text(template, "id")),
				 json_pack("{s:s}", "id", js_text(version, "id")));
	printf("Template \"%s\" has version \"%s\". Create a workspace with \"coder create NAME --template %s\".\n",
		   name,
		   js_text(version, "name"),
		   name);
	return 0;
}

static void
write_new(int dir, const char *path, const char *name, const char *text, size_t size)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	if (fd < 0 || write(fd, text, size) != (ssize_t) size || close(fd) != 0)
		cli_fail("could not write %s/%s: %s", path, name, strerror(errno));
}

/* What is there stays as it is. */
static int
run_init(Cli *cli)
{
	const char *path = cli_arg(cli, 0) != NULL ? cli_arg(cli, 0) : STARTER;
	const char *id = cli_flag(cli, "id");
	int dir;

	if (id != NULL && strcmp(id, STARTER) != 0)
		cli_fail("there is no starter \"%s\"; there is \"" STARTER "\"", id);
	if (mkdir(path, 0777) != 0 && errno != EEXIST)
		cli_fail("could not make %s: %s", path, strerror(errno));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		cli_fail("could not open %s: %s", path, strerror(errno));
	if (faccessat(dir, "main.tf", F_OK, AT_SYMLINK_NOFOLLOW) == 0 || faccessat(dir, "README.md", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		cli_fail("%s has a template or a README.md already", path);
	write_new(dir, path, "main.tf", starter_main, (size_t) (starter_main_end - starter_main));
	write_new(dir, path, "README.md", starter_readme, (size_t) (starter_readme_end - starter_readme));
	close(dir);
	printf("%s holds a template; its README.md says what it needs. Upload it with \"coder templates push -d %s\".\n", path, path);
	return 0;
}

static const char *
cell_users(const json_t *t)
{
	static char text[24];

	snprintf(text, sizeof(text), "%lld", (long long) js_int(t, "active_user_count"));
	return text;
}

static const CliColumn template_columns[] = {
	{"NAME", .text = "name"},
	{"ORGANIZATION", .text = "organization_name"},
	{"DEVELOPERS", .cell = cell_users},
	{"UPDATED", .time = "updated_at"},
	{.title = NULL},
};
static const CliColumn version_columns[] = {
	{"NAME", .text = "name"},
	{"CREATED", .time = "created_at"},
	{"CREATED BY", .text = "created_by.username"},
	{"STATUS", .text = "job.status"},
	{.title = NULL},
};

static int
run_list(Cli *cli)
{
	cli_need_login(cli);
	cli_print_list(cli, cli_get(cli, "/api/v2/templates"), template_columns);
	return 0;
}

static json_t *
template_by_name(Cli *cli, const char *name)
{
	return cli_get(cli,
				   cli_format("/api/v2/organizations/%s/templates/%s",
							  js_text(cli_organization(cli), "id"),
							  cli_escape(name)));
}

static int
run_versions(Cli *cli)
{
	json_t *template;

	cli_need_login(cli);
	template = template_by_name(cli, cli_arg(cli, 0));
	cli_print_list(cli,
				   cli_get(cli, cli_format("/api/v2/templates/%s/versions", js_text(template, "id"))),
				   version_columns);
	return 0;
}

static int
run_delete(Cli *cli)
{
	cli_need_login(cli);
	for (int i = 0; i < cli->nargs; i++)
	{
		json_t *template = template_by_name(cli, cli_arg(cli, i));

		if (!cli_confirm(cli, cli_format("Delete template \"%s\"?", cli_arg(cli, i))))
			return 1;
		cli_send(cli, "DELETE", cli_format("/api/v2/templates/%s", js_text(template, "id")), NULL);
		printf("Template \"%s\" is deleted.\n", cli_arg(cli, i));
	}
	return 0;
}

static const CliFlag push_flags[] = {
	{"directory", 'd', "dir", NULL, "Folder of the template (default: the current one)."},
	{"name", 0, "name", NULL, "Name of the new version."},
	{"message", 'm', "text", NULL, "What is new in this version."},
	{"variable", 0, "name=value", NULL, "Value of a Terraform variable; may be repeated."},
	{"activate", 0, "true|false", NULL, "Make the version the active one (default: true)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag init_flags[] = {
	{"id", 0, "starter", NULL, "The template to begin with (default, and the only one: sandbox)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag list_flags[] = {CLI_OUTPUT_FLAG, {NULL, 0, NULL, NULL, NULL}};

const CliCommand cli_template_commands[] = {
	{"templates init", "[directory]", "Write a template to begin with to a folder", init_flags, 0, 1, run_init, NULL},
	{"templates push", "[name]", "Upload a template, or a new version of it", push_flags, 0, 1, run_push, NULL},
	{"templates list", "", "List templates", list_flags, 0, 0, run_list, NULL},
	{"templates versions", "<name>", "List the versions of a template", list_flags, 1, 1, run_versions, NULL},
	{"templates delete", "<name>...", "Delete templates", NULL, 1, -1, run_delete, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
