/*
 * fuzz_http_client.c -- a server's answer as the client of agent and command
 * line reads it, and addresses as they are parsed.
 */
#include <sys/socket.h>

#include "net/conn.c"
#include "net/http.c"

#define FUZZ_MAX_INPUT 32768

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	NetResponse response = {0};
	NetConn conn = {-1, NULL};
	NetUrl url;
	char error[256];
	char text[512];
	size_t n = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
	int fds[2];

	memcpy(text, data, n);
	text[n] = '\0';
	net_url_parse(&url, text);

	if (size > FUZZ_MAX_INPUT || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		return 0;
	conn.fd = fds[0];
	if (send(fds[1], data, size, 0) == (ssize_t) size && shutdown(fds[1], SHUT_WR) == 0)
		read_response(&conn, size % 7 == 0 ? "HEAD" : "GET", &response, NULL, error, sizeof(error));
	net_response_free(&response);
	net_close(&conn);
	close(fds[1]);
	return 0;
}
