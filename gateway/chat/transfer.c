/*
 * transfer.c -- libcurl's transfers by epoll.
 *
 * libcurl tells which sockets it waits for, and when it wants to be called in any case.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "gateway.h"
#include "request.h"
#include "transfer.h"

#define MAX_FDS 8
#define AT_ONCE 128
/* libcurl looks at each transfer's speed every second: such calls may come a little late, for many at once. */
#define PATIENT_MS 100
#define LATE_MS 20

static struct
{
	CURLM *multi;
	int epoll;
	int64_t due; /* to call libcurl; -1: never */
} self = {.epoll = -1, .due = -1};

static int64_t
now_ms(void)
{
	return (int64_t) (gw_micros() / 1000);
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) arg;
	(void) socket;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
	if (epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		epoll_ctl(self.epoll, EPOLL_CTL_MOD, fd, &event);
	return 0;
}

static int
on_timer(CURLM *multi, long ms, void *arg)
{
	(void) multi;
	(void) arg;
	self.due = ms < 0 ? -1 : now_ms() + ms + (ms >= PATIENT_MS ? LATE_MS : 0);
	return 0;
}

CURLM *
transfers_open(long most)
{
	self.epoll = epoll_create1(EPOLL_CLOEXEC);
	self.multi = self.epoll >= 0 ? curl_multi_init() : NULL;
	if (self.multi == NULL)
		return NULL;
	curl_multi_setopt(self.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(self.multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(self.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, most);
	return self.multi;
}

static void
tell_ended(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(self.multi, &left)) != NULL)
	{
		Transfer *transfer = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		if (transfer != NULL)
			transfer->done(transfer, msg->easy_handle, msg->data.result);
	}
}

/* What epoll has found; a socket that is another's by now reads nothing. */
static void
go_on(void)
{
	struct epoll_event events[AT_ONCE];
	int n = epoll_wait(self.epoll, events, AT_ONCE, 0);
	int running;

	for (int i = 0; i < n; i++)
	{
		int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		curl_multi_socket_action(self.multi, events[i].data.fd, what, &running);
	}
}

void
transfers_wait(const struct pollfd *fds, int n, int64_t ms)
{
	struct pollfd all[MAX_FDS + 1] = {{self.epoll, POLLIN, 0}};
	int64_t left = self.due >= 0 ? self.due - now_ms() : ms;
	int running;

	memcpy(all + 1, fds, (size_t) n * sizeof(*fds));
	poll(all, (nfds_t) n + 1, (int) (left < 0 ? 0 : left < ms ? left : ms));
	if (all[0].revents != 0)
		go_on();
	if (self.due >= 0 && self.due <= now_ms())
	{
		self.due = -1;
		curl_multi_socket_action(self.multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	tell_ended();
}

void
transfers_close(void)
{
	curl_multi_cleanup(self.multi);
	close(self.epoll);
}
