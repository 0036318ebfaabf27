/*
 * exchange.h -- one request to a model and its streamed answer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_EXCHANGE_H
#define GATEWAY_CHAT_EXCHANGE_H

#include <curl/curl.h>

#include "chain.h"
#include "eventstream.h"
#include "failure.h"
#include "grant.h"
#include "provider.h"
#include "wire/sse.h"
#include "stream.h"
#include "transfer.h"

/* For so long a provider may say nothing in the middle of an answer. */
extern long exchange_silence_s;

/* All borrowed, until exchange_begin returns. */
typedef struct ExchangeAsk
{
	const Grant *grant;
	const json_t *chat; /* id, owner_id, parent_chat_id, workspace_id: told in headers */
	const json_t *history;
	const json_t *tools;
	const char *tool_choice; /* the tool that must be called, NULL: as the model likes */
	bool as_json;			 /* as in ProviderAsk */
	bool no_calls;			 /* as in ProviderAsk */
	int64_t max_output;		 /* tokens; 0: as the model is configured */
	long limit_ms;			 /* for the whole exchange; 0: none */
	bool chain;				 /* to go on from the provider's last answer, where that can be */
} ExchangeAsk;

/* failure: NULL where the answer is whole; it is in exchange->stream until exchange_free. */
typedef void (*ExchangeDone)(void *arg, const Failure *failure);

typedef struct Exchange
{
	Transfer transfer; /* first */
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	ProviderRequest request;
	const ProviderFormat *format;
	Sse sse;
	EventStream frames; /* instead of sse, where the format has them */
	Stream stream;
	bool stream_open;
	bool is_whole; /* the answer is no stream but one text: JSON, or a page */
	bool is_over;  /* no more of the stream comes */
	int64_t last_came; /* when the last bytes of the answer came, in ms */
	char *error_body; /* of a failure, and of an answer that is one text */
	size_t error_len;
	size_t error_room;
	int64_t retry_after_ms; /* as the provider asked */
	char *why;				/* what the provider said of its failure; it may name the key */
	bool chained;			/* it went on from the provider's last answer */
	char context[CHAIN_CONTEXT]; /* of the question, where the provider keeps its answers; else "" */
	ExchangeDone done;
	void *arg;
} Exchange;

/* exchange: zeroed, or freed.  False: the request cannot be made; error says why (static text). */
bool exchange_begin(Exchange *exchange, CURLM *multi, const char *ca_file, const ExchangeAsk *ask, StreamPart part, ExchangeDone done,
					void *arg, const char **error);

/* What the answer says, as it is stored (stream_content). */
json_t *exchange_content(const Exchange *exchange);
/* The provider's id of the answer; NULL where it is not whole. */
const char *exchange_answer_id(const Exchange *exchange);

/* Ends the transfer; what has come is kept. */
void exchange_stop(Exchange *exchange);

/* Ends the transfer and drops all. */
void exchange_free(Exchange *exchange);

#endif
