/* SPDX-License-Identifier: MIT */
/*
 * build.h
 *	  States of provisioner jobs, builds and workspaces (build.c).
 */
#ifndef CODER_BUILD_H
#define CODER_BUILD_H

/* The status that follows from the job's four columns, never stored. */
typedef enum CoderJobStatus
{
	JOB_PENDING,
	JOB_RUNNING,
	JOB_CANCELING,
	JOB_SUCCEEDED,
	JOB_CANCELED,
	JOB_FAILED,
	JOB_UNKNOWN,
} CoderJobStatus;

typedef enum CoderTransition
{
	TRANSITION_START,
	TRANSITION_STOP,
	TRANSITION_DELETE,
	TRANSITION_UNKNOWN,
} CoderTransition;

extern CoderJobStatus coder_job_status_parse(const char *text, size_t len);
extern CoderTransition coder_transition_parse(const char *text, size_t len);
extern bool coder_job_active(CoderJobStatus status);
extern const char *coder_workspace_status_name(CoderJobStatus status, CoderTransition transition);

#endif							/* CODER_BUILD_H */
