/*
 * initscript.c -- the scripts that download and start an agent in a new machine
 *
 * A template runs one as its machine's command.  It must work with what a bare
 * image has: a POSIX shell and one of curl, wget and busybox.  It never gives
 * up on the download, and never ends at once, so that its log can be read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/initscript.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const InitTarget init_targets[INIT_TARGETS] = {{"linux", "amd64"},
											   {"linux", "arm64"},
											   {"linux", "armv7"},
											   {"darwin", "amd64"},
											   {"darwin", "arm64"},
											   {"windows", "amd64"},
											   {"windows", "arm64"}};

static const char linux_script[] =
	"#!/bin/sh\n"
	"set -eux\n"
	"hold() {\n"
	"\techo \"The agent did not start or has ended; this machine is kept for a day so that its log can be read.\"\n"
	"\tsleep 86400\n"
	"}\n"
	"trap hold EXIT\n"
	"BINARY_DIR=${BINARY_DIR:-$(mktemp -d -t coder.XXXXXX)}\n"
	"BINARY_NAME=coder\n"
	"BINARY_URL=${ACCESS_URL}bin/coder-linux-${ARCH}\n"
	"cd \"$BINARY_DIR\"\n"
	"fetch() {\n"
	"\tif command -v curl >/dev/null 2>&1; then\n"
	"\t\tcurl -fsSL --compressed \"$BINARY_URL\" -o \"$BINARY_NAME\"\n"
	"\telif command -v wget >/dev/null 2>&1; then\n"
	"\t\twget -q \"$BINARY_URL\" -O \"$BINARY_NAME\"\n"
	"\telif command -v busybox >/dev/null 2>&1; then\n"
	"\t\tbusybox wget -q \"$BINARY_URL\" -O \"$BINARY_NAME\"\n"
	"\telse\n"
	"\t\techo \"One of curl, wget and busybox is needed to download the agent.\"\n"
	"\t\texit 127\n"
	"\tfi\n"
	"}\n"
	"until fetch; do\n"
	"\techo \"Could not download the agent; trying again in 30 seconds.\"\n"
	"\tsleep 30\n"
	"done\n"
	"chmod +x \"$BINARY_NAME\" || exit 1\n"
	"if [ -n \"${USE_CAP_NET_ADMIN:-}\" ] && [ \"$(id -u)\" -ne 0 ] && command -v setcap >/dev/null 2>&1; then\n"
	"\tsudo -n setcap CAP_NET_ADMIN=+ep \"./$BINARY_NAME\" || echo \"CAP_NET_ADMIN could not be given to the agent.\"\n"
	"fi\n"
	"export CODER_AGENT_AUTH=\"${AUTH_TYPE}\"\n"
	"export CODER_AGENT_URL=\"${ACCESS_URL}\"\n"
	"case \"$(\"./$BINARY_NAME\" --version | head -n1)\" in\n"
	"*Coder*) ;;\n"
	"*)\n"
	"\techo \"What was downloaded from $BINARY_URL is not the agent.\"\n"
	"\texit 2\n"
	"\t;;\n"
	"esac\n"
	"exec \"./$BINARY_NAME\" agent\n";

static const char darwin_script[] =
	"#!/bin/sh\n"
	"set -eux\n"
	"hold() {\n"
	"\techo \"The agent did not start or has ended; this machine is kept for a day so that its log can be read.\"\n"
	"\tsleep 86400\n"
	"}\n"
	"trap hold EXIT\n"
	"BINARY_DIR=$(mktemp -d -t coder.XXXXXX)\n"
	"BINARY_NAME=coder\n"
	"BINARY_URL=${ACCESS_URL}bin/coder-darwin-${ARCH}\n"
	"cd \"$BINARY_DIR\"\n"
	"until curl -fsSL --compressed \"$BINARY_URL\" -o \"$BINARY_NAME\"; do\n"
	"\techo \"Could not download the agent; trying again in 30 seconds.\"\n"
	"\tsleep 30\n"
	"done\n"
	"chmod +x \"$BINARY_NAME\" || exit 1\n"
	"export CODER_AGENT_AUTH=\"${AUTH_TYPE}\"\n"
	"export CODER_AGENT_URL=\"${ACCESS_URL}\"\n"
	"case \"$(\"./$BINARY_NAME\" --version | head -n1)\" in\n"
	"*Coder*) ;;\n"
	"*) exit 2 ;;\n"
	"esac\n"
	"exec \"./$BINARY_NAME\" agent\n";

static const char windows_script[] =
	"$ProgressPreference = \"SilentlyContinue\"\n"
	"trap {\n"
	"\tWrite-Output \"The agent did not start; this machine is kept for a day so that its log can be read: $_\"\n"
	"\tStart-Sleep -Seconds 86400\n"
	"}\n"
	"if (Get-Command 'Set-MpPreference' -ErrorAction SilentlyContinue) {\n"
	"\tSet-MpPreference -DisableRealtimeMonitoring $true -ExclusionPath $env:TEMP\\sshd.exe\n"
	"}\n"
	"while ($true) {\n"
	"\ttry {\n"
	"\t\tInvoke-WebRequest -Uri \"${ACCESS_URL}/bin/coder-windows-${ARCH}.exe\" -OutFile $env:TEMP\\sshd.exe\n"
	"\t\tbreak\n"
	"\t} catch {\n"
	"\t\tWrite-Output \"Could not download the agent; trying again in 30 seconds: $_\"\n"
	"\t\tStart-Sleep -Seconds 30\n"
	"\t}\n"
	"}\n"
	"$env:CODER_AGENT_AUTH = \"${AUTH_TYPE}\"\n"
	"$env:CODER_AGENT_URL = \"${ACCESS_URL}\"\n"
	"if (-not ((& $env:TEMP\\sshd.exe --version) -match \"Coder\")) { throw \"what was downloaded is not the agent\" }\n"
	"if (Get-Service cexecsvc -ErrorAction SilentlyContinue) {\n"
	"\t& $env:TEMP\\sshd.exe agent\n"
	"} else {\n"
	"\tStart-Process -FilePath $env:TEMP\\sshd.exe -ArgumentList \"agent\" -PassThru\n"
	"}\n";

/* text with every occurrence of from replaced; frees text. */
static char *
replace_all(char *text, const char *from, const char *to)
{
	const size_t from_len = strlen(from);
	const size_t to_len = strlen(to);
	char *hit;

	for (hit = text; hit != NULL && (hit = strstr(hit, from)) != NULL;)
	{
		const size_t before = (size_t) (hit - text);
		const size_t rest = strlen(hit + from_len);
		char *out = malloc(before + to_len + rest + 1);

		if (out == NULL)
			break;
		memcpy(out, text, before);
		memcpy(out + before, to, to_len);
		memcpy(out + before + to_len, hit + from_len, rest + 1);
		free(text);
		text = out;
		hit = text + before + to_len;
	}
	return text;
}

char *
initscript_template(const char *os, const char *arch)
{
	const char *source;
	int i;

	for (i = 0; i < INIT_TARGETS; i++)
		if (strcmp(init_targets[i].os, os) == 0 && strcmp(init_targets[i].arch, arch) == 0)
			break;
	if (i == INIT_TARGETS)
		return NULL;
	source = strcmp(os, "linux") == 0	 ? linux_script
			 : strcmp(os, "darwin") == 0 ? darwin_script
										 : windows_script;
	return replace_all(strdup(source), "${ARCH}", arch);
}

char *
initscript_render(const char *os, const char *arch, const char *access_url, const char *auth)
{
	char *text = initscript_template(os, arch);
	const char *host = strstr(access_url, "://");
	const size_t base = host != NULL ? (size_t) (host - access_url) + 3 + strcspn(host + 3, "/?#")
									 : strlen(access_url);
	char *url;

	if (text == NULL || asprintf(&url, "%.*s/", (int) base, access_url) < 0)
		return text;
	text = replace_all(text, "${ACCESS_URL}", url);
	free(url);
	return replace_all(text, "${AUTH_TYPE}", auth);
}
