/*
 * peers.c -- GET /debug/coordinator: who is on the tailnet, as a page.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "../reply.h"
#include "coordinator.h"
#include "stream.h"

void
gw_stream_coordinator(h2o_req_t *req, json_t *plan)
{
	size_t size = 0;
	char *page = coord_page(&size);
	h2o_iovec_t body;

	(void) plan;
	if (page == NULL)
	{
		gw_reply_error(req, 500, "An internal server error occurred.", NULL);
		return;
	}
	body = h2o_strdup(&req->pool, page, size);
	free(page);
	gw_reply_body(req, 200, "text/html; charset=utf-8", body.base, body.len);
}
