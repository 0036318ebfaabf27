-- sql/api/githost.sql -- git servers: which one a remote is at, what its API is asked about a branch, and what it answers
--
-- GitHub, GitLab, Gitea and Forgejo, Bitbucket (cloud and server), Azure DevOps, as far as external authentication knows them.
-- coder.git_get has their addresses, coder.git_pull what they call things; chatgit.sql sees pull requests of one shape only.

-- Where the API of a kind of server is, unless it is set; '' where it is not known.
CREATE OR REPLACE FUNCTION coder.git_api_base(c jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN rtrim(coalesce(nullif(c->>'api_base_url', ''), CASE c->>'type'
		WHEN 'bitbucket-cloud' THEN 'https://api.bitbucket.org/2.0'
		WHEN 'bitbucket-server' THEN substring(c->>'auth_url' FROM '^https?://[^/?#]+') || '/rest/api/latest'
		WHEN 'azure-devops' THEN 'https://dev.azure.com'
		WHEN 'azure-devops-entra' THEN 'https://dev.azure.com' END, ''), '/');
END
$$;

-- The provider of external authentication that knows a remote, with "repository" (coder.git_repository); NULL where there is none
-- whose API is known.
CREATE OR REPLACE FUNCTION coder.git_provider(origin text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	repository CONSTANT jsonb := coder.git_repository(origin);
	c jsonb;
BEGIN
	IF repository IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT x.c INTO c FROM coder.external_auth_configs() WITH ORDINALITY x (c, n)
	 WHERE x.c->>'type' IN ('github', 'gitlab', 'gitea', 'bitbucket-cloud', 'bitbucket-server', 'azure-devops', 'azure-devops-entra')
	   AND coder.git_api_base(x.c) <> ''
	   AND coder.external_auth_matches(x.c, format('https://%s/%s', repository->>'host', repository->>'path')) ORDER BY x.n DESC LIMIT 1;
	RETURN c || jsonb_build_object('repository', repository);
END
$$;

-- Where the API has a repository.
CREATE OR REPLACE FUNCTION coder.git_api(c jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	path CONSTANT text := c->'repository'->>'path';
	azure CONSTANT text[] := regexp_match(path, '^([^/]+)/(?:([^/]+)/)?_git/([^/]+)$');
	server CONSTANT text[] := regexp_match(path, '^(?:scm/)?([^/]+)/([^/]+)$');
BEGIN
	RETURN coder.git_api_base(c) || CASE
		WHEN c->>'type' = 'gitlab' THEN '/projects/' || coder.url_encode(path)
		WHEN c->>'type' = 'bitbucket-cloud' THEN '/repositories/' || path
		WHEN c->>'type' = 'bitbucket-server' THEN format('/projects/%s/repos/%s', coalesce(server[1], 'none'), coalesce(server[2], 'none'))
		-- A repository that is called as its project may be named once.
		WHEN c->>'type' LIKE 'azure-devops%' THEN format('/%s/%s/_apis/git/repositories/%s', coalesce(azure[1], 'none'), coalesce(azure[2], azure[3], 'none'), coalesce(azure[3], 'none'))
		ELSE '/repos/' || path END;
END
$$;

-- A request to the API of a git server; accept: the form of the answer.
CREATE OR REPLACE FUNCTION coder.git_get(c jsonb, token text, path text, accept text DEFAULT 'application/json', max_size int4 DEFAULT 1048576)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.fetch_get(coder.git_api(c) || path || CASE WHEN c->>'type' LIKE 'azure-devops%'
			THEN CASE WHEN strpos(path, '?') > 0 THEN '&' ELSE '?' END || 'api-version=7.1' ELSE '' END,
		jsonb_build_object('Authorization', 'Bearer ' || token, 'Accept', accept), max_size);
END
$$;

-- Which pull requests does a branch have?  The newest first; Gitea cannot be asked about one branch only.
CREATE OR REPLACE FUNCTION coder.git_list_request(c jsonb, token text, branch text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ref CONSTANT text := coder.url_encode('refs/heads/' || branch);
BEGIN
	RETURN coder.git_get(c, token, CASE
		WHEN c->>'type' = 'gitlab' THEN '/merge_requests?state=all&order_by=updated_at&sort=desc&per_page=20&source_branch=' || coder.url_encode(branch)
		WHEN c->>'type' = 'gitea' THEN '/pulls?state=all&sort=recentupdate&limit=50'
		WHEN c->>'type' = 'bitbucket-cloud' THEN '/pullrequests?state=OPEN&state=MERGED&state=DECLINED&state=SUPERSEDED&sort=-updated_on&pagelen=20&q='
			|| coder.url_encode(format('source.branch.name = "%s"', replace(replace(branch, '\', '\\'), '"', '\"')))
		WHEN c->>'type' = 'bitbucket-server' THEN '/pull-requests?state=ALL&direction=OUTGOING&order=NEWEST&limit=25&at=' || ref
		WHEN c->>'type' LIKE 'azure-devops%' THEN '/pullrequests?searchCriteria.status=all&$top=20&searchCriteria.sourceRefName=' || ref
		ELSE format('/pulls?state=all&sort=updated&direction=desc&per_page=20&head=%s',
			coder.url_encode(split_part(c->'repository'->>'path', '/', 1) || ':' || branch)) END);
END
$$;

-- A branch without what Azure puts before it.
CREATE OR REPLACE FUNCTION coder.git_branch_name(ref text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN left(regexp_replace(ref, '^refs/heads/', ''), 255);
END
$$;

-- A pull request of any server: {"number", "state": open, merged or closed, "title", "draft", "url", "login", "avatar", "base", "head",
-- "additions", "deletions", "changed_files", "commits"}; what it does not tell is null.
CREATE OR REPLACE FUNCTION coder.git_pull(c jsonb, p jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := c->>'type';
	state CONSTANT text := lower(coalesce(p->>'state', p->>'status', ''));
	number CONSTANT int4 := coder.git_number(coalesce(p->>'iid', p->>'number', p->>'pullRequestId', p->>'id'));
BEGIN
	RETURN jsonb_build_object('number', number,
		'state', CASE WHEN p->>'merged' = 'true' OR state IN ('merged', 'completed') THEN 'merged' WHEN state IN ('open', 'opened', 'active') THEN 'open' ELSE 'closed' END,
		'title', left(coalesce(p->>'title', ''), 1000), 'draft', coalesce(coalesce(p->>'draft', p->>'isDraft') = 'true', false),
		'additions', coder.git_number(p->>'additions'), 'deletions', coder.git_number(p->>'deletions'),
		'changed_files', coder.git_number(coalesce(p->>'changed_files', p->>'changes_count')), 'commits', coder.git_number(p->>'commits'))
		|| CASE
		WHEN kind = 'gitlab' THEN jsonb_build_object('url', p->>'web_url', 'login', p->'author'->>'username', 'avatar', p->'author'->>'avatar_url',
			'base', p->>'target_branch', 'head', p->>'source_branch')
		WHEN kind = 'bitbucket-cloud' THEN jsonb_build_object('url', p->'links'->'html'->>'href', 'login', coalesce(p->'author'->>'nickname', p->'author'->>'display_name'),
			'avatar', p->'author'->'links'->'avatar'->>'href', 'base', p->'destination'->'branch'->>'name', 'head', p->'source'->'branch'->>'name')
		WHEN kind = 'bitbucket-server' THEN jsonb_build_object('url', p->'links'->'self'->0->>'href', 'login', coalesce(p->'author'->'user'->>'slug', p->'author'->'user'->>'name'),
			'avatar', NULL, 'base', p->'toRef'->>'displayId', 'head', p->'fromRef'->>'displayId')
		WHEN kind LIKE 'azure-devops%' THEN jsonb_build_object('url', format('https://%s/%s/pullrequest/%s', c->'repository'->>'host', c->'repository'->>'path', number),
			'login', coalesce(p->'createdBy'->>'uniqueName', p->'createdBy'->>'displayName'), 'avatar', p->'createdBy'->>'imageUrl',
			'base', coder.git_branch_name(p->>'targetRefName'), 'head', coder.git_branch_name(p->>'sourceRefName'))
		ELSE jsonb_build_object('url', p->>'html_url', 'login', p->'user'->>'login', 'avatar', p->'user'->>'avatar_url',
			'base', p->'base'->>'ref', 'head', p->'head'->>'ref') END;
END
$$;

-- The one of a list that counts: an open one, else the newest; NULL where there is none.  raises ZC500 where the answer is none,
-- ZC429 where the server wants fewer requests.
CREATE OR REPLACE FUNCTION coder.git_listed(c jsonb, branch text, result jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	list jsonb;
BEGIN
	PERFORM coder.git_check(result);
	body := coder.try_json(result->>'body');
	list := CASE jsonb_typeof(body) WHEN 'object' THEN coalesce(body->'values', body->'value') ELSE body END;
	IF jsonb_typeof(list) IS DISTINCT FROM 'array' THEN
		PERFORM coder.raise(500, 'The git server gave no list.');
	END IF;
	RETURN (SELECT p.pull FROM (SELECT coder.git_pull(c, e.v) AS pull, e.n FROM jsonb_array_elements(list) WITH ORDINALITY e (v, n)) p
		WHERE p.pull->>'number' IS NOT NULL AND (c->>'type' <> 'gitea' OR p.pull->>'head' = branch)
		ORDER BY p.pull->>'state' = 'open' DESC, p.n LIMIT 1);
END
$$;

-- Raises ZC429 or ZC500 unless a git server has answered.
CREATE OR REPLACE FUNCTION coder.git_check(result jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	status CONSTANT int4 := (result->>'status')::int4;
BEGIN
	IF status = 429 OR status = 403 AND coalesce(result->'headers'->>'x-ratelimit-remaining', '') = '0' THEN
		PERFORM coder.raise(429, 'The git server wants fewer requests.');
	ELSIF status NOT BETWEEN 200 AND 299 OR status = 203 THEN
		-- 203: Azure shows who is not signed in a page.
		PERFORM coder.raise(500, 'The git server did not answer.', coder.fetched_error(result));
	END IF;
END
$$;

-- What is asked about one pull request: itself, and what it does not tell: who has reviewed it, or how much it changes.
CREATE OR REPLACE FUNCTION coder.git_detail_requests(c jsonb, token text, pull jsonb)
RETURNS jsonb[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	number CONSTANT text := pull->>'number';
BEGIN
	RETURN CASE
		WHEN c->>'type' = 'gitlab' THEN ARRAY[coder.git_get(c, token, '/merge_requests/' || number), coder.git_get(c, token, format('/merge_requests/%s/approvals', number))]
		WHEN c->>'type' = 'gitea' THEN ARRAY[coder.git_get(c, token, '/pulls/' || number), coder.git_get(c, token, format('/pulls/%s/reviews?limit=50', number))]
		WHEN c->>'type' = 'bitbucket-cloud' THEN ARRAY[coder.git_get(c, token, '/pullrequests/' || number),
			coder.git_get(c, token, format('/diffstat/%s..%s?topic=true&pagelen=500', coder.url_encode(pull->>'head'), coder.url_encode(pull->>'base')))]
		WHEN c->>'type' = 'bitbucket-server' THEN ARRAY[coder.git_get(c, token, '/pull-requests/' || number),
			coder.git_get(c, token, format('/pull-requests/%s/changes?limit=1000', number))]
		WHEN c->>'type' LIKE 'azure-devops%' THEN ARRAY[coder.git_get(c, token, '/pullrequests/' || number),
			coder.git_get(c, token, format('/pullrequests/%s/commits?$top=1000', number))]
		ELSE ARRAY[coder.git_get(c, token, '/pulls/' || number), coder.git_get(c, token, format('/pulls/%s/reviews?per_page=100', number))] END;
END
$$;

-- A page of a git server as an address that a browser may be sent to; NULL where it is none.
CREATE OR REPLACE FUNCTION coder.git_web_url(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN value ~ '^https?://[^[:space:][:cntrl:]<>"]+$' AND length(value) <= 2048 THEN value END;
END
$$;

-- An array, or an empty one.
CREATE OR REPLACE FUNCTION coder.json_list(value jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN jsonb_typeof(value) = 'array' THEN value ELSE '[]' END;
END
$$;

-- Who has reviewed a pull request, and their last word: {who: "yes", "no" or "other"}; p: the request, more: the second answer.
CREATE OR REPLACE FUNCTION coder.git_reviews(c jsonb, p jsonb, more jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := c->>'type';
BEGIN
	RETURN coalesce((SELECT jsonb_object_agg(r.who, r.word) FROM (SELECT DISTINCT ON (s.who) s.who, s.word FROM (
		SELECT n, v->'user'->>'login' AS who, CASE WHEN v->>'dismissed' = 'true' THEN 'other' ELSE CASE v->>'state' WHEN 'APPROVED' THEN 'yes'
				WHEN 'CHANGES_REQUESTED' THEN 'no' WHEN 'REQUEST_CHANGES' THEN 'no' WHEN 'DISMISSED' THEN 'other' END END AS word
		  FROM jsonb_array_elements(coder.json_list(CASE WHEN kind IN ('github', 'gitea') THEN more END)) WITH ORDINALITY e (v, n)
		UNION ALL SELECT n, coalesce(v->'user'->>'nickname', v->'user'->>'display_name'), CASE v->>'state' WHEN 'approved' THEN 'yes' WHEN 'changes_requested' THEN 'no' END
		  FROM jsonb_array_elements(coder.json_list(CASE WHEN kind = 'bitbucket-cloud' THEN p->'participants' END)) WITH ORDINALITY e (v, n)
		UNION ALL SELECT n, v->'user'->>'name', CASE v->>'status' WHEN 'APPROVED' THEN 'yes' WHEN 'NEEDS_WORK' THEN 'no' END
		  FROM jsonb_array_elements(coder.json_list(CASE WHEN kind = 'bitbucket-server' THEN p->'reviewers' END)) WITH ORDINALITY e (v, n)
		UNION ALL SELECT n, coalesce(v->>'uniqueName', v->>'displayName'), CASE WHEN v->>'vote' IN ('5', '10') THEN 'yes' WHEN v->>'vote' IN ('-5', '-10') THEN 'no' END
		  FROM jsonb_array_elements(coder.json_list(CASE WHEN kind LIKE 'azure-devops%' THEN p->'reviewers' END)) WITH ORDINALITY e (v, n)) s
		WHERE s.who IS NOT NULL AND s.word IS NOT NULL ORDER BY s.who, s.n DESC) r), '{}');
END
$$;

-- How much it changes, where only the second answer tells.
CREATE OR REPLACE FUNCTION coder.git_changes(c jsonb, more jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE
		WHEN c->>'type' = 'bitbucket-cloud' THEN (SELECT jsonb_build_object('additions', coalesce(sum(coder.git_number(v->>'lines_added')), 0),
				'deletions', coalesce(sum(coder.git_number(v->>'lines_removed')), 0), 'changed_files', count(*))
			FROM jsonb_array_elements(coder.json_list(more->'values')) e (v))
		WHEN c->>'type' = 'bitbucket-server' THEN jsonb_build_object('changed_files', jsonb_array_length(coder.json_list(more->'values')))
		WHEN c->>'type' LIKE 'azure-devops%' AND more ? 'value' THEN jsonb_build_object('commits', jsonb_array_length(coder.json_list(more->'value')))
		ELSE '{}' END;
END
$$;

-- Both answers as columns of coder.chat_diff_statuses.
CREATE OR REPLACE FUNCTION coder.git_details(c jsonb, results jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	more CONSTANT jsonb := CASE WHEN (results->1->>'status')::int4 BETWEEN 200 AND 299 THEN coder.try_json(results->1->>'body') END;
	lab CONSTANT bool := c->>'type' = 'gitlab';
	p jsonb;
	pull jsonb;
	words jsonb;
BEGIN
	PERFORM coder.git_check(results->0);
	p := coder.fetched_object(results->0);
	pull := coder.git_pull(c, p) || coder.git_changes(c, more);
	words := coder.git_reviews(c, p, more);
	RETURN jsonb_build_object('url', coder.git_web_url(pull->>'url'), 'pr_number', pull->'number', 'pull_request_state', pull->'state',
		'pull_request_title', pull->'title', 'pull_request_draft', pull->'draft',
		'changes_requested', words @? '$.* ? (@ == "no")' OR coalesce(p->>'detailed_merge_status' = 'requested_changes', false),
		'additions', coalesce((pull->>'additions')::int8, 0), 'deletions', coalesce((pull->>'deletions')::int8, 0),
		'changed_files', coalesce((pull->>'changed_files')::int8, 0), 'commits', pull->'commits',
		'author_login', left(pull->>'login', 255), 'author_avatar_url', coder.git_web_url(pull->>'avatar'),
		'base_branch', left(pull->>'base', 255), 'head_branch', left(pull->>'head', 255),
		'approved', CASE WHEN lab THEN coalesce(more->>'approved' = 'true', false) ELSE words @? '$.* ? (@ == "yes")' AND NOT words @? '$.* ? (@ == "no")' END,
		'reviewer_count', CASE WHEN lab THEN jsonb_array_length(coder.json_list(more->'approved_by')) ELSE (SELECT count(*) FROM jsonb_object_keys(words)) END);
END
$$;

-- A count as a git server writes it ("1000+" too); NULL where it is none.
CREATE OR REPLACE FUNCTION coder.git_number(value text)
RETURNS int4 LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN substring(value FROM '^[0-9]{1,9}')::int4;
END
$$;

-- What tells the default branch of a repository.
CREATE OR REPLACE FUNCTION coder.git_default_request(c jsonb, token text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.git_get(c, token, CASE c->>'type' WHEN 'bitbucket-server' THEN '/default-branch' ELSE '' END);
END
$$;

-- What the answer says it is; NULL where it does not.
CREATE OR REPLACE FUNCTION coder.git_default_branch(answer jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(answer->>'default_branch', answer->'mainbranch'->>'name', answer->>'displayId', coder.git_branch_name(answer->>'defaultBranch'));
END
$$;

-- The request for the diff of a pull request, or of a branch (pull NULL) against another; NULL where the server has none to give.
CREATE OR REPLACE FUNCTION coder.git_diff_request(c jsonb, token text, pull jsonb, branch text, base text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := c->>'type';
	number CONSTANT text := pull->>'number';
	path CONSTANT text := CASE
		WHEN kind = 'gitlab' AND pull IS NOT NULL THEN format('/merge_requests/%s/raw_diffs', number)
		WHEN kind = 'gitlab' THEN format('/repository/compare?from=%s&to=%s', coder.url_encode(base), coder.url_encode(branch))
		WHEN kind = 'gitea' THEN format('/pulls/%s.diff', number)
		-- The branch goes first there.
		WHEN kind = 'bitbucket-cloud' THEN format('/diff/%s..%s?topic=true', coder.url_encode(coalesce(pull->>'head', branch)), coder.url_encode(coalesce(pull->>'base', base)))
		WHEN kind = 'bitbucket-server' THEN format('/pull-requests/%s.diff', number)
		WHEN kind LIKE 'azure-devops%' THEN NULL
		WHEN pull IS NOT NULL THEN '/pulls/' || number
		ELSE format('/compare/%s...%s', coder.url_encode(base), coder.url_encode(branch)) END;
BEGIN
	IF path IS NULL OR pull IS NULL AND kind IN ('gitea', 'bitbucket-server') THEN
		RETURN NULL;
	END IF;
	RETURN coder.git_get(c, token, path, CASE kind WHEN 'github' THEN 'application/vnd.github.diff' ELSE '*/*' END, 4194304);
END
$$;
