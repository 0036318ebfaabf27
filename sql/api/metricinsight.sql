-- SPDX-License-Identifier: MIT
--
-- metricinsight.sql
--   Metrics of what people use: of the last five minutes.

CREATE OR REPLACE FUNCTION coder.metrics_insights(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN NEXT coder.metric('coderd_insights_templates_active_users', 'gauge', 'Users with connections to workspaces of a template within the last five minutes.',
		'SELECT t.name AS template_name, o.name AS organization_name, count(DISTINCT s.user_id) FROM coder.workspace_agent_stats s
		   JOIN coder.templates t ON t.id = s.template_id JOIN coder.organizations o ON o.id = t.organization_id
		  WHERE s.created_at > $1 - interval ''5 minutes'' AND s.created_at <= $1 AND s.connection_count > 0 AND NOT t.deleted GROUP BY 1, 2', at);
	RETURN NEXT coder.metric('coderd_insights_applications_usage_seconds', 'gauge', 'Time that users spent in apps within the last five minutes, by whole minutes.',
		'SELECT t.name AS template_name, x.app AS application_name, x.slug, o.name AS organization_name, 60 * count(DISTINCT (x.user_id, x.minute))
		   FROM (SELECT s.template_id, k.app, '''' AS slug, s.user_id, date_trunc(''minute'', s.created_at) AS minute
				   FROM coder.workspace_agent_stats s, LATERAL (VALUES (''Visual Studio Code'', s.session_count_vscode), (''JetBrains'', s.session_count_jetbrains),
						(''Web Terminal'', s.session_count_reconnecting_pty), (''SSH'', s.session_count_ssh)) k (app, sessions)
				  WHERE s.created_at > $1 - interval ''5 minutes'' AND s.created_at <= $1 AND k.sessions > 0
				 UNION ALL
				 SELECT w.template_id, coalesce((SELECT p.display_name FROM coder.workspace_apps p WHERE p.agent_id = a.agent_id AND p.slug = a.slug_or_port), a.slug_or_port),
						a.slug_or_port, a.user_id, date_trunc(''minute'', a.session_started_at)
				   FROM coder.workspace_app_stats a JOIN coder.workspaces w ON w.id = a.workspace_id
				  WHERE a.session_started_at > $1 - interval ''5 minutes'' AND a.session_started_at <= $1 AND a.access_method <> ''terminal'') x
		   JOIN coder.templates t ON t.id = x.template_id JOIN coder.organizations o ON o.id = t.organization_id
		  WHERE NOT t.deleted GROUP BY 1, 2, 3, 4', at);
	RETURN NEXT coder.metric('coderd_insights_parameters', 'gauge', 'Values of parameters of the builds of the last five minutes; long ones are cut off.',
		'SELECT t.name AS template_name, p.name AS parameter_name, coalesce(v.type, ''string'') AS parameter_type, left(p.value, 256) AS parameter_value, o.name AS organization_name, count(*)
		   FROM coder.workspace_builds b JOIN coder.workspace_build_parameters p ON p.workspace_build_id = b.id
		   JOIN coder.workspaces w ON w.id = b.workspace_id JOIN coder.templates t ON t.id = w.template_id JOIN coder.organizations o ON o.id = t.organization_id
		   LEFT JOIN coder.template_version_parameters v ON v.template_version_id = b.template_version_id AND v.name = p.name
		  WHERE b.created_at > $1 - interval ''5 minutes'' AND b.created_at <= $1 AND NOT t.deleted GROUP BY 1, 2, 3, 4, 5', at);
	RETURN NEXT coder.metric('coderd_notifications_dispatch_attempts_total', 'counter', 'Messages that were put into inboxes; no other way is built.',
		'SELECT ''inbox'' AS method, i.template_id AS notification_template_id, ''success'' AS result, count(*) FROM coder.inbox_notifications i GROUP BY 2', at);
	RETURN NEXT coder.metric('coderd_experiments', 'gauge', 'Experiments that are on.',
		'SELECT e.v #>> ''{}'' AS experiment, 1 FROM jsonb_array_elements(coder.experiments_json()::jsonb) e (v)', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_insights(timestamptz) IS 'Families of metrics of use within the last five minutes, of messages and of experiments.';
