-- SPDX-License-Identifier: MIT
--
-- app.sql
--   Apps of workspaces: the wildcard host, terminals, the agent's init script.

CREATE OR REPLACE FUNCTION coder.applications_host_name() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_wildcard text := coalesce(coder.setting('wildcard_access_url'), '');
	u record;
BEGIN
	v_wildcard := regexp_replace(v_wildcard, '^https?://', '');
	IF v_wildcard = '' OR v_wildcard ~ ':\d+$' THEN
		RETURN v_wildcard;
	END IF;
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN v_wildcard || CASE WHEN u.port = CASE u.scheme WHEN 'https' THEN 443 ELSE 80 END THEN ''
							  ELSE ':' || u.port END;
END
$$;
COMMENT ON FUNCTION coder.applications_host_name() IS
	'The wildcard host of apps with its port; empty if there is none.';

CREATE OR REPLACE FUNCTION coder.applications_host(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('host', coder.applications_host_name()));
END
$$;
COMMENT ON FUNCTION coder.applications_host(coder.request) IS 'GET /applications/host.';

CREATE OR REPLACE FUNCTION coder.query_size(req coder.request, name text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(nullif(req.query ->> name, ''), '80');
BEGIN
	IF v !~ '^\d{1,5}$' OR v::integer > 65535 THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL,
			jsonb_build_array(coder.validation(name, format('Query param "%s" must be a valid integer between 0 and 65535', name))));
	END IF;
	RETURN v::integer;
END
$$;
COMMENT ON FUNCTION coder.query_size(coder.request, text) IS
	'Width or height of a terminal, 80 where it is not given; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_pty(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req, 'ssh');
	v_reconnect uuid := coder.try_uuid(coalesce(req.query ->> 'reconnect', ''));
BEGIN
	IF v_reconnect IS NULL THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL,
			jsonb_build_array(coder.validation('reconnect', 'Query param "reconnect" is required and must be a valid uuid')));
	END IF;
	RETURN coder.reply(101, jsonb_build_object('format', 'pty', 'agent_id', (c.agent).id,
		'reconnect', v_reconnect, 'width', coder.query_size(req, 'width'), 'height', coder.query_size(req, 'height'),
		'command', coalesce(req.query ->> 'command', ''), 'container', coalesce(req.query ->> 'container', ''),
		'container_user', coalesce(req.query ->> 'container_user', ''),
		'backend_type', coalesce(req.query ->> 'backend_type', ''),
		'channels', '[]'::jsonb, 'frames', '[]'::jsonb, 'cursor', '1'));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_pty(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/pty: a terminal; 404 without ssh on the workspace.';

-- ---- the script that starts an agent in a workspace ----

CREATE OR REPLACE FUNCTION coder.init_script_posix(os text, arch text, url text, auth text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN replace(replace(replace(replace($script$#!/bin/sh
# Fetches the agent from the server and becomes it.
set -eux

# When this script fails, the workspace stays for a day, so that its output can be read.
stay() {
	echo "The agent could not be started. This workspace waits for 24 hours, then ends."
	sleep 86400
}
trap stay EXIT

dir=${BINARY_DIR:-$(mktemp -d -t coder.XXXXXX)}
url="@URL@bin/coder-@OS@-@ARCH@"
cd "$dir"

fetch() {
	if command -v curl >/dev/null 2>&1; then
		curl -fsSL --compressed "$url" -o coder
	elif command -v wget >/dev/null 2>&1; then
		wget -q "$url" -O coder
	elif command -v busybox >/dev/null 2>&1; then
		busybox wget -q "$url" -O coder
	else
		echo "One of curl, wget and busybox is needed to fetch the agent."
		exit 127
	fi
}
until fetch; do
	echo "The agent could not be fetched from $url; next try in 30 seconds."
	sleep 30
done
chmod +x coder || exit 1

# A direct tunnel with larger buffers needs this capability.
if [ -n "${USE_CAP_NET_ADMIN:-}" ] && command -v capsh >/dev/null 2>&1; then
	if [ "$(id -u)" -eq 0 ]; then
		capsh --has-p=cap_net_admin || echo "CAP_NET_ADMIN is missing."
	elif sudo -n true 2>/dev/null && command -v setcap >/dev/null 2>&1; then
		sudo -n setcap cap_net_admin+ep ./coder || echo "CAP_NET_ADMIN could not be set."
	fi
fi

export CODER_AGENT_AUTH="@AUTH@"
export CODER_AGENT_URL="@URL@"
case $(./coder --version | head -n 1) in
	*Coder*) ;;
	*)
		echo "What was fetched from $url is not the agent."
		exit 2
		;;
esac
exec ./coder agent
$script$, '@URL@', url), '@OS@', os), '@ARCH@', arch), '@AUTH@', auth);
END
$$;
COMMENT ON FUNCTION coder.init_script_posix(text, text, text, text) IS
	'Script for Linux and macOS that fetches the agent and runs it.';

CREATE OR REPLACE FUNCTION coder.init_script_windows(arch text, url text, auth text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN replace(replace(replace($script$# Fetches the agent from the server and runs it.
trap {
	Write-Host "The agent could not be started: $_ This workspace waits for 24 hours."
	Start-Sleep -Seconds 86400
}
$ErrorActionPreference = "Stop"
$Url = "@URL@/bin/coder-windows-@ARCH@.exe"
$Agent = Join-Path $env:TEMP "sshd.exe"
if (Get-Command Set-MpPreference -ErrorAction SilentlyContinue) {
	Set-MpPreference -DisableRealtimeMonitoring $true -ExclusionPath $Agent
}
$Fetched = $false
while (-not $Fetched) {
	try {
		Invoke-WebRequest -Uri $Url -OutFile $Agent
		$Fetched = $true
	} catch {
		Write-Host "The agent could not be fetched from $Url; next try in 30 seconds."
		Start-Sleep -Seconds 30
	}
}
$env:CODER_AGENT_AUTH = "@AUTH@"
$env:CODER_AGENT_URL = "@URL@"
if (-not ((& $Agent --version | Out-String) -match "Coder")) {
	throw "What was fetched from $Url is not the agent."
}
# In a container the script is the main process, so the agent stays in front.
if (Get-Service -Name cexecsvc -ErrorAction SilentlyContinue) {
	& $Agent agent
} else {
	Start-Process -FilePath $Agent -ArgumentList "agent" -WindowStyle Hidden
}
$script$, '@URL@', url), '@ARCH@', arch), '@AUTH@', auth);
END
$$;
COMMENT ON FUNCTION coder.init_script_windows(text, text, text) IS
	'Script for Windows that fetches the agent and runs it.';

CREATE OR REPLACE FUNCTION coder.init_script(os text, arch text, url text, auth text DEFAULT 'token') RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE
		WHEN (os, arch) IN (('linux', 'amd64'), ('linux', 'arm64'), ('linux', 'armv7'),
							('darwin', 'amd64'), ('darwin', 'arm64')) THEN coder.init_script_posix(os, arch, url, auth)
		WHEN (os, arch) IN (('windows', 'amd64'), ('windows', 'arm64')) THEN coder.init_script_windows(arch, url, auth)
	END;
END
$$;
COMMENT ON FUNCTION coder.init_script(text, text, text, text) IS
	'Script that fetches the agent from url (which ends in a slash) and runs it; NULL for an unknown system. With ${ACCESS_URL} and ${AUTH_TYPE} as arguments it is what the Terraform provider wants in CODER_AGENT_SCRIPT_<os>_<arch>.';

CREATE OR REPLACE FUNCTION coder.init_script_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_url text := rtrim(coalesce(coder.setting('access_url'), ''), '/') || '/';
	v_script text := coder.init_script(req.params ->> 'os', req.params ->> 'arch', v_url);
	v coder.response;
BEGIN
	IF v_script IS NULL THEN
		PERFORM coder.raise(400, format('Unknown os/arch: %s/%s', req.params ->> 'os', req.params ->> 'arch'));
	END IF;
	v.status := 200;
	v.raw := convert_to(v_script, 'UTF8');
	v.headers := E'Content-Type: text/plain; charset=utf-8\r\nContent-Digest: sha256:'
		|| encode(convert_to(encode(sha256(v.raw), 'base64'), 'UTF8'), 'hex') || E'\r\n';
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.init_script_get(coder.request) IS
	'GET /init-script/{os}/{arch}; 400 for an unknown system.';

INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('app', 'GET', '/api/v2/applications/host', 'applications_host', 'session'),
	('app', 'GET', '/api/v2/applications/auth-redirect', 'not_built', 'session'),
	('app', 'POST', '/api/v2/applications/reconnecting-pty-signed-token', 'not_built', 'session'),
	('app', 'GET', '/api/v2/workspaceagents/{workspaceagent}/pty', 'workspaceagent_pty', 'session'),
	('app', 'GET', '/api/v2/init-script/{os}/{arch}', 'init_script_get', 'none');
