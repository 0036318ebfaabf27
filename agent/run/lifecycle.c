/*
 * lifecycle.c -- the states of the agent, told to the server in order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <time.h>

#include "run/agent.h"

void
lifecycle_set(Agent *agent, LifecycleState state)
{
	/* A state that is not later than the last one is dropped, as the protocol has it. */
	if (agent->nlifecycle > 0 && agent->lifecycle[agent->nlifecycle - 1].state >= state)
		return;
	agent->lifecycle[agent->nlifecycle].state = state;
	clock_gettime(CLOCK_REALTIME, &agent->lifecycle[agent->nlifecycle].at);
	agent->nlifecycle++;
	lifecycle_flush(agent);
}

static void
on_told(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Agent *agent = arg;

	(void) data;
	(void) size;
	agent->lifecycle_busy = false;
	if (error != NULL)
	{
		agent_drop_connection(agent, error);
		return;
	}
	agent->lifecycle_sent++;
	lifecycle_flush(agent);
}

void
lifecycle_flush(Agent *agent)
{
	Coder__Agent__V2__UpdateLifecycleRequest request = CODER__AGENT__V2__UPDATE_LIFECYCLE_REQUEST__INIT;
	Coder__Agent__V2__Lifecycle lifecycle = CODER__AGENT__V2__LIFECYCLE__INIT;
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (agent->lifecycle_busy || agent->lifecycle_sent == agent->nlifecycle || agent->rpc == NULL)
		return;
	at.seconds = agent->lifecycle[agent->lifecycle_sent].at.tv_sec;
	at.nanos = (int32_t) (agent->lifecycle[agent->lifecycle_sent].at.tv_nsec / 1000 * 1000);
	lifecycle.state = agent->lifecycle[agent->lifecycle_sent].state;
	lifecycle.changed_at = &at;
	request.lifecycle = &lifecycle;
	agent->lifecycle_busy = agent_call(agent, "UpdateLifecycle", &request.base, on_told, agent);
}

bool
lifecycle_settled(const Agent *agent)
{
	return agent->lifecycle_sent == agent->nlifecycle;
}
