# The files of the install script, in this order, behind sql/header.sql.
# Tables (run once) and functions (run again by every update) live apart.
SQL_SCHEMA = \
	schema/route.sql \
	schema/event.sql \
	schema/setting.sql \
	schema/option.sql \
	schema/seal.sql \
	schema/cryptokey.sql \
	schema/organization.sql \
	schema/user.sql \
	schema/signin.sql \
	schema/externalauth.sql \
	schema/apikey.sql \
	schema/rbac.sql \
	schema/oauth2provider.sql \
	schema/audit.sql \
	schema/notification.sql \
	schema/file.sql \
	schema/job.sql \
	schema/template.sql \
	schema/workspace.sql \
	schema/build.sql \
	schema/resource.sql \
	schema/workspaceagent.sql \
	schema/activity.sql \
	schema/app.sql \
	schema/tailnet.sql \
	schema/boundary.sql \
	schema/chat.sql \
	schema/change.sql \
	schema/audited.sql

SQL_API = \
	api/base.sql \
	api/fetch.sql \
	api/seal.sql \
	api/cryptokey.sql \
	api/search.sql \
	api/rbac.sql \
	api/user.sql \
	api/login.sql \
	api/usersetting.sql \
	api/account.sql \
	api/signin.sql \
	api/oidc.sql \
	api/github.sql \
	api/apikey.sql \
	api/session.sql \
	api/oauth2provider.sql \
	api/oauth2token.sql \
	api/oauth2registration.sql \
	api/organization.sql \
	api/idpsync.sql \
	api/scim.sql \
	api/notification.sql \
	api/webpush.sql \
	api/audit.sql \
	api/deployment.sql \
	api/insight.sql \
	api/file.sql \
	api/job.sql \
	api/provisionerjob.sql \
	api/provisionerkey.sql \
	api/template.sql \
	api/templateversion.sql \
	api/parameter.sql \
	api/build.sql \
	api/buildjob.sql \
	api/buildlog.sql \
	api/workspace.sql \
	api/schedule.sql \
	api/workspacelist.sql \
	api/workspacesharing.sql \
	api/quota.sql \
	api/resource.sql \
	api/activity.sql \
	api/workspaceagent.sql \
	api/agentrpc.sql \
	api/boundary.sql \
	api/tailnet.sql \
	api/health.sql \
	api/connectionlog.sql \
	api/externalauth.sql \
	api/app.sql \
	api/usage.sql \
	api/metric.sql \
	api/chatconfig.sql \
	api/chatprovider.sql \
	api/chatlimit.sql \
	api/chatfile.sql \
	api/chat.sql \
	api/chatinput.sql \
	api/chatmessage.sql \
	api/chatstream.sql \
	api/chatcost.sql \
	api/chatrun.sql \
	api/chattool.sql \
	api/chatcontext.sql \
	api/chatgit.sql \
	api/mcpserver.sql \
	api/mcpauth.sql \
	tick.sql \
	admin.sql \
	api/console.sql

# Routes that nothing above has built answer 501; then what all files made is closed but for whom it is for.
SQL_LAST = api/unbuilt.sql access.sql
