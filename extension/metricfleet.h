/* SPDX-License-Identifier: MIT */
/*
 * metricfleet.h
 *	  Workspaces, builds, jobs, agents and apps of one snapshot, each table read
 *	  once, for metrics (metricfleet.c).
 */
#ifndef CODER_METRICFLEET_H
#define CODER_METRICFLEET_H

#include "utils/timestamp.h"

#include "build.h"
#include "metrictext.h"
#include "workspaceagent.h"

#define FLEET_NONE (-1)

/* A label's value, escaped already; equal values are one object, but for names of workspaces. */
typedef struct FleetName
{
	int			len;
	char		text[FLEXIBLE_ARRAY_MEMBER];
} FleetName;

typedef struct FleetTemplate
{
	const FleetName *name;
	const FleetName *organization;
	bool		deleted;
} FleetTemplate;

typedef struct FleetWorkspace
{
	const FleetName *name;
	const FleetName *owner;
	const FleetTemplate *template;
	const FleetName *organization;
	bool		deleted;
	pg_uuid_t	latest_id;
	int			latest;			/* build, or FLEET_NONE */
	int			first_up;		/* its first start that succeeded, or FLEET_NONE */
	int			first_total;	/* the same of those that were added up */
	int			agents;			/* of the latest build */
	/* For who counts: the last of its own series, or FLEET_NONE. */
	int			builds_series;
	int			apps_series;
} FleetWorkspace;

typedef struct FleetJob
{
	const FleetName *provisioner;
	const FleetName *type;
	const FleetName *status_name;
	CoderJobStatus status;
	TimestampTz created_at;
	TimestampTz started_at;		/* DT_NOBEGIN: NULL */
	TimestampTz completed_at;	/* the same */
	int			build;
} FleetJob;

typedef struct FleetBuild
{
	int			workspace;
	int			job;
	int32		number;
	const FleetName *version;
	const FleetName *preset;
	const FleetName *transition;
	const FleetName *reason;
	CoderTransition transition_code;
	bool		prebuild;
	TimestampTz created_at;
	/* Of its root agents. */
	int			agents;
	int			agents_final;
	int			worst;			/* 0 success, 1 timeout, 2 error */
	TimestampTz last_ready;
} FleetBuild;

/* An agent of the latest build of a workspace. */
typedef struct FleetAgent
{
	const FleetName *name;
	const FleetName *lifecycle;
	const FleetName *node;
	int			build;
	CoderAgentTimes times;
} FleetAgent;

/* The first connection of an agent of any build. */
typedef struct FleetFirst
{
	const FleetName *agent;
	int			build;
	TimestampTz created_at;
	TimestampTz connected_at;
} FleetFirst;

typedef struct FleetLatency
{
	int			agent;
	const FleetName *region;
	bool		preferred;
	double		seconds;
} FleetLatency;

typedef struct FleetApp
{
	int			agent;
	const FleetName *name;
	const FleetName *health;
} FleetApp;

/* What coder.build_totals has sums of, as coder.job_counts numbers it. */
enum
{
	TOTAL_QUEUE_WAIT = 1,
	TOTAL_JOB_SECONDS,
	TOTAL_ENQUEUED,
	TOTAL_TEMPLATE_BUILD,
	TOTAL_CREATION,
	TOTAL_BUILDS,
	TOTAL_BUILD_SECONDS,
	TOTAL_FIRST,
	TOTAL_FIRST_UP
};

#define FLEET_TOTAL_LABELS 4

/* What sums are of; only what its family has means something. */
typedef struct FleetTotalKey
{
	int			family;
	int64		n;				/* of all its sums */
	int			workspace;		/* or FLEET_NONE */
	const FleetTemplate *template;	/* or NULL */
	const FleetName *organization;
	const FleetName *version;
	const FleetName *preset;
	const FleetName *labels[FLEET_TOTAL_LABELS];
	int32		number;			/* of a first build */
} FleetTotalKey;

typedef struct FleetTotal
{
	int			key;
	int			bucket;
	int64		n;
	int64		micros;
} FleetTotal;

typedef struct Fleet
{
	TimestampTz at;
	struct FleetIds *ids;		/* of everything, to its place */
	const FleetName ***named;	/* by kind, what is only a name */
	struct FleetNames_hash *names;
	struct FleetLabel *labels;	/* of enums */
	int			nlabels;
	const FleetName *unknown;
	const FleetName *empty;
	const FleetName *booleans[2];
	const FleetName *statuses[AGENT_DISCONNECTED + 1];	/* by CoderAgentStatus */
	FleetTemplate *templates;
	int			ntemplates;
	FleetWorkspace *workspaces;
	int			nworkspaces;
	FleetJob   *jobs;
	int			njobs;
	FleetBuild *builds;
	int			nbuilds;
	FleetAgent *agents;
	int			nagents;
	FleetFirst *firsts;
	int			nfirsts;
	FleetLatency *latencies;
	int			nlatencies;
	FleetApp   *apps;
	int			napps;
	FleetTotalKey *total_keys;
	int			ntotal_keys;
	FleetTotal *totals;
	int			ntotals;
} Fleet;

/* Reads all under the active snapshot, into the current context. */
extern Fleet *fleet_read(TimestampTz at);
extern const FleetName *fleet_name(Fleet *fleet, const char *text, int len);
extern CoderAgentStatus fleet_agent_status(const Fleet *fleet, const FleetAgent *agent);

#endif							/* CODER_METRICFLEET_H */
