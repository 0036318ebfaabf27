/*
 * git.c -- the repositories that chats work in, and what has changed there: GET /api/v0/git/watch
 *
 *	write, edit, command -> git_touched: chat -> its repositories
 *	                                        |
 *	watcher <- scan of one repository after the other, at most one of all at a time
 *
 * A watcher is told of a repository when what git says of it is not what it was told before.  It is looked at when a tool of
 * the chat has done something, when the client asks, and now and then anyway, since people change files too.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "serve/gitdiff.h"
#include "serve/ws.h"

#define MAX_CHATS 200
#define MAX_ROOTS 32 /* of a chat */
#define MAX_WATCHERS 64
#define MAX_DIFF ((size_t) 3 << 20)
#define MAX_OUTPUT (MAX_DIFF + 262144) /* the script gives less */
#define COOLDOWN_NS ((int64_t) 1000000000)
#define FALLBACK_MS 30000
#define SCAN_MS 20000
#define END_MS 2000
#define EXIT_NO_REPOSITORY 3
#define EXIT_NO_GIT 4

typedef struct Root
{
	struct Root *next;
	char *path;
} Root;

typedef struct Chat
{
	struct Chat *next; /* those used last are in front */
	char id[40];
	Root *roots;
	int nroots;
} Chat;

/* What a watcher was last told of a repository. */
typedef struct Told
{
	struct Told *next;
	char *root;
	unsigned char digest[32];
	bool removed;
} Told;

typedef struct Watcher
{
	struct Watcher *next;
	Agent *agent;
	ServeWs *ws;
	char chat[40];
	LoopTimer timer;
	int64_t scanned; /* ns; 0: never */
	bool answer; /* also where nothing has changed */
	bool waiting; /* for its turn */
	bool again; /* wanted while it was being scanned */
	Root *left; /* of the scan that runs */
	json_t *changes;
	Told *told;
} Watcher;

/* The one git that runs. */
typedef struct Scan
{
	Watcher *watcher; /* NULL: it is gone */
	char *root;
	Process process;
	LoopFd *watch;
	LoopTimer limit;
	char *output;
	size_t len;
	size_t room;
	bool late; /* it was asked to end */
} Scan;

static Chat *chats;
static Watcher *watchers;
static Scan *scan;

/*
 * What is not tracked is put into a copy of the index, as if it were to be added, so that one diff shows all.  Nothing of
 * the repository is written, no program that its settings name is run but filters.
 */
static const char script[] =
	"exec 2>/dev/null\n"
	"trap 'exit 1' TERM\n"
	"command -v git >/dev/null || exit 4\n"
	"export GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0 LC_ALL=C\n"
	"unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_EXTERNAL_DIFF\n"
	"g() { git -c core.fsmonitor=false -c core.bigFileThreshold=1m -c core.quotePath=false -c diff.noprefix=false "
	"-c diff.mnemonicPrefix=false \"$@\"; }\n"
	"top=$(g rev-parse --show-toplevel) && cd \"$top\" || exit 3\n"
	"branch=$(g symbolic-ref --short -q HEAD || g rev-parse --short HEAD)\n"
	"origin=$(g config --get remote.origin.url)\n"
	"printf '%s\\0%s\\0' \"$branch\" \"$origin\"\n"
	"base=$(g rev-parse -q --verify 'HEAD^{tree}' || g hash-object -t tree /dev/null) || exit 3\n"
	"dir=$(mktemp -d) || exit 1\n"
	"trap 'rm -rf \"$dir\"' EXIT\n"
	"cp \"$(g rev-parse --git-path index)\" \"$dir/index\"\n"
	"export GIT_INDEX_FILE=\"$dir/index\"\n"
	"g add -N -- . >/dev/null\n"
	"g diff --no-color --no-ext-diff --no-textconv --find-renames --ignore-submodules=dirty \"$base\" | head -c 3200000\n";

static void begin_next(Agent *agent);

/* What chats have touched ---------------------------------------------------------- */

static void
free_roots(Root *root)
{
	while (root != NULL)
	{
		Root *next = root->next;

		free(root->path);
		free(root);
		root = next;
	}
}

static Chat *
find_chat(const char *id)
{
	for (Chat *chat = chats; chat != NULL; chat = chat->next)
		if (strcasecmp(chat->id, id) == 0)
			return chat;
	return NULL;
}

static void
forget_oldest(void)
{
	Chat **link = &chats;
	int n = 0;

	while (*link != NULL && ++n < MAX_CHATS)
		link = &(*link)->next;
	while (*link != NULL)
	{
		Chat *chat = *link;

		*link = chat->next;
		free_roots(chat->roots);
		free(chat);
	}
}

/* The chat, in front of all others. */
static Chat *
use_chat(const char *id)
{
	Chat *chat = find_chat(id);

	if (chat == NULL)
	{
		forget_oldest();
		chat = calloc(1, sizeof(*chat));
		if (chat == NULL)
			return NULL;
		snprintf(chat->id, sizeof(chat->id), "%s", id);
	}
	else
		for (Chat **link = &chats; *link != NULL; link = &(*link)->next)
			if (*link == chat)
			{
				*link = chat->next;
				break;
			}
	chat->next = chats;
	chats = chat;
	return chat;
}

/* The repository that a path is in, which need not be there itself; malloc'ed, NULL where it is in none. */
static char *
find_root(const char *path)
{
	char at[PATH_MAX];
	char git[PATH_MAX];

	if (*path != '/' || snprintf(at, sizeof(at), "%s", path) >= (int) sizeof(at))
		return NULL;
	for (;;)
	{
		char *slash;

		if (snprintf(git, sizeof(git), "%s/.git", strcmp(at, "/") == 0 ? "" : at) < (int) sizeof(git) && access(git, F_OK) == 0)
			return realpath(at, NULL);
		slash = strrchr(at, '/');
		if (slash == NULL || at[1] == '\0')
			return NULL;
		slash[slash == at] = '\0';
	}
}

static void
add_root(const char *id, const char *root)
{
	Chat *chat = use_chat(id);
	Root *new_one;

	if (chat == NULL)
		return;
	for (const Root *known = chat->roots; known != NULL; known = known->next)
		if (strcmp(known->path, root) == 0)
			return;
	if (chat->nroots == MAX_ROOTS || (new_one = calloc(1, sizeof(*new_one))) == NULL)
		return;
	new_one->path = strdup(root);
	if (new_one->path == NULL)
	{
		free(new_one);
		return;
	}
	new_one->next = chat->roots;
	chat->roots = new_one;
	chat->nroots++;
}

/* Looks again, as soon as it may be. */
static void
want_scan(Watcher *watcher)
{
	int64_t due = watcher->scanned + COOLDOWN_NS;

	if (watcher->waiting || watcher->left != NULL || watcher->changes != NULL)
		watcher->again = true;
	else if (watcher->scanned == 0 || due <= loop_clock())
		loop_timer_start(&watcher->timer, 0);
	else
		loop_timer_start_at(&watcher->timer, due);
}

static bool
has_root(const char *id, const char *path)
{
	const Chat *chat = find_chat(id);

	for (const Root *root = chat != NULL ? chat->roots : NULL; root != NULL; root = root->next)
		if (strcmp(root->path, path) == 0)
			return true;
	return false;
}

/* root: NULL where it is in no repository. */
static void
changed(const char *chat, const char *root)
{
	for (Watcher *watcher = watchers; watcher != NULL; watcher = watcher->next)
		if ((*chat != '\0' && strcasecmp(watcher->chat, chat) == 0) || (root != NULL && has_root(watcher->chat, root)))
			want_scan(watcher);
}

void
git_changed(const char *chat, const char *path)
{
	char *root = find_root(path);

	changed(chat, root);
	free(root);
}

void
git_touched(Request *request, const char *path)
{
	char *root = *http_chat(request) != '\0' ? find_root(path) : NULL;
	json_t *ancestors = root != NULL ? json_loads(http_ancestors(request), 0, NULL) : NULL;
	size_t i;
	json_t *ancestor;

	if (root != NULL)
		add_root(http_chat(request), root);
	json_array_foreach(ancestors, i, ancestor)
		if (json_is_string(ancestor) && json_string_length(ancestor) == 36)
			add_root(json_string_value(ancestor), root);
	changed(http_chat(request), root);
	json_decref(ancestors);
	free(root);
}

/* What is told ------------------------------------------------------------------ */

static void
send_json(Watcher *watcher, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);

	json_decref(message);
	if (text != NULL && watcher->ws != NULL)
		serve_ws_send(watcher->ws, text, strlen(text));
	free(text);
}

static Told *
told_of(Watcher *watcher, const char *root)
{
	Told *told = watcher->told;

	while (told != NULL && strcmp(told->root, root) != 0)
		told = told->next;
	if (told != NULL || (told = calloc(1, sizeof(*told))) == NULL)
		return told;
	told->root = strdup(root);
	if (told->root == NULL)
	{
		free(told);
		return NULL;
	}
	told->next = watcher->told;
	watcher->told = told;
	return told;
}

static void
note(Watcher *watcher, const char *root, const GitScan *found)
{
	Told *told = told_of(watcher, root);
	unsigned char digest[32] = {0};
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (told != NULL && ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
	{
		EVP_DigestUpdate(ctx, found->branch, strlen(found->branch) + 1);
		EVP_DigestUpdate(ctx, found->origin, strlen(found->origin) + 1);
		EVP_DigestUpdate(ctx, found->diff, strlen(found->diff));
		EVP_DigestFinal_ex(ctx, digest, NULL);
	}
	EVP_MD_CTX_free(ctx);
	if (told == NULL || (!told->removed && memcmp(told->digest, digest, sizeof(digest)) == 0))
		return;
	memcpy(told->digest, digest, sizeof(digest));
	told->removed = false;
	json_array_append_new(watcher->changes, json_pack("{s:s, s:s, s:s, s:s}", "repo_root", root, "branch", found->branch, "remote_origin",
													  found->origin, "unified_diff", found->diff));
}

static void
note_removed(Watcher *watcher, const char *root)
{
	Told *told = told_of(watcher, root);

	if (told == NULL || told->removed)
		return;
	told->removed = true;
	json_array_append_new(watcher->changes, json_pack("{s:s, s:s, s:b}", "repo_root", root, "branch", "", "removed", 1));
}

/* All repositories have been looked at. */
static void
scan_done(Watcher *watcher)
{
	char now[40];
	time_t at = time(NULL);
	struct tm tm;

	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
	if (json_array_size(watcher->changes) > 0 || watcher->answer)
		send_json(watcher, json_pack("{s:s, s:s, s:O}", "type", "changes", "scanned_at", now, "repositories", watcher->changes));
	json_decref(watcher->changes);
	watcher->changes = NULL;
	watcher->answer = false;
	watcher->scanned = loop_clock();
	if (watcher->again)
	{
		watcher->again = false;
		want_scan(watcher);
	}
	else
		loop_timer_start(&watcher->timer, FALLBACK_MS);
}

/* Scans ------------------------------------------------------------------------- */

/* The root is the watcher's no longer. */
static char *
take_root(Watcher *watcher)
{
	Root *root = watcher->left;
	char *path = root->path;

	watcher->left = root->next;
	free(root);
	return path;
}

static void
take_result(Watcher *watcher, int status)
{
	GitScan found;

	if (status == EXIT_NO_REPOSITORY)
		note_removed(watcher, scan->root);
	else if (status == EXIT_NO_GIT)
		send_json(watcher, json_pack("{s:s, s:s}", "type", "error", "message", "git is not installed in the workspace."));
	else if (git_parse_scan(scan->output != NULL ? scan->output : "", scan->len, MAX_DIFF, &found))
	{
		note(watcher, scan->root, &found);
		git_free_scan(&found);
	}
	else
		send_json(watcher, json_pack("{s:s, s:o}", "type", "error", "message", json_sprintf("git failed in %s.", scan->root)));
}

static void
end_scan(Agent *agent, bool failed)
{
	Watcher *watcher = scan->watcher;
	int status;

	loop_timer_stop(&scan->limit);
	loop_fd_del(scan->watch);
	close(scan->process.out);
	/* What it has left behind. */
	command_kill(&scan->process, SIGKILL);
	status = command_wait(&scan->process);
	if (scan->process.pidfd >= 0)
		close(scan->process.pidfd);
	if (watcher != NULL && failed)
		send_json(watcher, json_pack("{s:s, s:o}", "type", "error", "message", json_sprintf("git takes too long in %s.", scan->root)));
	else if (watcher != NULL)
		take_result(watcher, status);
	free(scan->output);
	free(scan->root);
	free(scan);
	scan = NULL;
	if (watcher != NULL && watcher->left == NULL)
		scan_done(watcher);
	else if (watcher != NULL)
		watcher->waiting = true;
	begin_next(agent);
}

static void
on_limit(void *arg)
{
	if (scan->late)
	{
		end_scan(arg, true);
		return;
	}
	scan->late = true;
	command_kill(&scan->process, SIGTERM);
	loop_timer_start(&scan->limit, END_MS);
}

static void
on_output(void *arg, uint32_t events)
{
	(void) events;
	for (;;)
	{
		ssize_t n;

		if (scan->room - scan->len < 65536)
		{
			char *grown = realloc(scan->output, scan->room + 262144);

			if (grown == NULL)
			{
				end_scan(arg, true);
				return;
			}
			scan->output = grown;
			scan->room += 262144;
		}
		n = read(scan->process.out, scan->output + scan->len, 65536);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0 && (scan->len += (size_t) n) <= MAX_OUTPUT)
			continue;
		end_scan(arg, scan->late || n > 0);
		return;
	}
}

/* Runs git in one repository; false: it could not be started. */
static bool
start_scan(Watcher *watcher)
{
	Command wanted = {.text = script, .plain = true};
	char error[256];

	scan = calloc(1, sizeof(*scan));
	if (scan == NULL)
		return false;
	scan->watcher = watcher;
	scan->root = take_root(watcher);
	wanted.directory = scan->root;
	wanted.merge_output = true;
	if (command_start(watcher->agent, &wanted, &scan->process, error, sizeof(error)) != 0)
	{
		/* Where the folder is gone there is nothing to start in. */
		note_removed(watcher, scan->root);
		free(scan->root);
		free(scan);
		scan = NULL;
		return false;
	}
	close(scan->process.in);
	fcntl(scan->process.out, F_SETFL, O_NONBLOCK);
	loop_timer_init(&scan->limit, watcher->agent->loop, on_limit, watcher->agent);
	loop_timer_start(&scan->limit, SCAN_MS);
	scan->watch = loop_fd_add(watcher->agent->loop, scan->process.out, EPOLLIN, on_output, watcher->agent);
	if (scan->watch == NULL)
		abort();
	return true;
}

/* Whoever waits longest. */
static Watcher *
next_waiting(void)
{
	Watcher *first = NULL;

	for (Watcher *watcher = watchers; watcher != NULL; watcher = watcher->next)
		if (watcher->waiting && (first == NULL || watcher->scanned < first->scanned))
			first = watcher;
	return first;
}

static void
begin_next(Agent *agent)
{
	Watcher *watcher;

	(void) agent;
	while (scan == NULL && (watcher = next_waiting()) != NULL)
	{
		watcher->waiting = false;
		while (watcher->left != NULL && !start_scan(watcher))
			;
		if (scan == NULL)
			scan_done(watcher);
	}
}

static void
on_due(void *arg)
{
	Watcher *watcher = arg;
	const Chat *chat = find_chat(watcher->chat);

	watcher->changes = json_array();
	for (const Root *root = chat != NULL ? chat->roots : NULL; root != NULL; root = root->next)
	{
		Root *copy = calloc(1, sizeof(*copy));

		if (copy == NULL || (copy->path = strdup(root->path)) == NULL)
		{
			free(copy);
			break;
		}
		copy->next = watcher->left;
		watcher->left = copy;
	}
	watcher->waiting = true;
	begin_next(watcher->agent);
}

/* Watchers ---------------------------------------------------------------------- */

static void
on_message(void *arg, const uint8_t *data, size_t size)
{
	Watcher *watcher = arg;
	json_t *message = json_loadb((const char *) data, size, 0, NULL);
	const char *type = json_string_value(json_object_get(message, "type"));

	if (type != NULL && strcmp(type, "refresh") == 0)
	{
		watcher->answer = true;
		want_scan(watcher);
	}
	else
		send_json(watcher, json_pack("{s:s, s:s}", "type", "error", "message", "The only message is {\"type\": \"refresh\"}."));
	json_decref(message);
}

static void
on_closed(void *arg)
{
	Watcher *watcher = arg;

	for (Watcher **link = &watchers; *link != NULL; link = &(*link)->next)
		if (*link == watcher)
		{
			*link = watcher->next;
			break;
		}
	if (scan != NULL && scan->watcher == watcher)
		scan->watcher = NULL;
	loop_timer_stop(&watcher->timer);
	free_roots(watcher->left);
	json_decref(watcher->changes);
	while (watcher->told != NULL)
	{
		Told *told = watcher->told;

		watcher->told = told->next;
		free(told->root);
		free(told);
	}
	free(watcher);
}

static int
count_watchers(void)
{
	int n = 0;

	for (const Watcher *watcher = watchers; watcher != NULL; watcher = watcher->next)
		n++;
	return n;
}

void
git_watch(Request *request)
{
	static const ServeWsHandlers handlers = {on_message, on_closed, NULL};
	char *chat = http_query(request, "chat_id");
	Watcher *watcher = NULL;

	if (count_watchers() >= MAX_WATCHERS)
		http_reply_message(request, 429, "Too many watch already.");
	else if ((watcher = calloc(1, sizeof(*watcher))) != NULL)
	{
		watcher->agent = http_agent(request);
		snprintf(watcher->chat, sizeof(watcher->chat), "%s", chat != NULL ? chat : http_chat(request));
		watcher->answer = true;
		watcher->ws = serve_ws_upgrade(request, &handlers, watcher);
		if (watcher->ws == NULL)
			free(watcher);
		else
		{
			loop_timer_init(&watcher->timer, watcher->agent->loop, on_due, watcher);
			watcher->next = watchers;
			watchers = watcher;
			want_scan(watcher);
		}
	}
	free(chat);
}
