/*
 * mcpremote.h -- an MCP server at an address, as a program.
 *
 * The agent starts itself as that program: messages come on its standard input and go to its standard output, a line each,
 * as with any other server of .mcp.json, and over HTTP to the server.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_MCPREMOTE_H
#define AGENT_SERVE_MCPREMOTE_H

/* What main() is called with, and where it finds {"url", "sse", "headers"}. */
#define MCPREMOTE_COMMAND "mcp-remote"
#define MCPREMOTE_ENV "CODER_MCP_REMOTE"

/* Until standard input ends or the server cannot be spoken to any more; the status of the process. */
int mcpremote_main(void);

#endif
