/*
 * provider.h -- the wire formats of model providers: what is sent, and how the answer is read.
 *
 * No I/O: turn.c sends what these make and feeds what comes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_PROVIDER_H
#define GATEWAY_CHAT_PROVIDER_H

#include <stdbool.h>
#include <time.h>

#include <jansson.h>

#include "stream.h"

#define PROVIDER_MAX_HEADERS 8

/* What a request is made of.  All borrowed. */
typedef struct ProviderAsk
{
	const char *provider; /* "openai", ... */
	const char *model;
	const char *base_url; /* "" for the provider's own */
	const char *api_key;
	const json_t *options; /* of the model: ChatModelCallConfig */
	const json_t *history; /* [{role, content: [part, ...]}, ...], each call followed by its result */
	const json_t *tools;   /* [{name, description, input_schema, anthropic?: as its API defines the tool}, ...] */
	const char *tool_choice; /* the tool that must be called; NULL: as the model likes */
	bool as_json;			 /* its arguments will do as the answer, where a provider can hold a model to a schema */
	bool no_calls;			 /* tools are told of, as history has calls of them, and none is to be called */
	int64_t max_output;		 /* tokens; 0: as the options say */
	const char *previous;	 /* the answer that history goes on from, where the provider keeps answers; NULL: history is whole */
	const char *region;		 /* of AWS, where the base URL names none; NULL: the default */
	time_t now;				 /* that a signature is of */
} ProviderAsk;

typedef struct ProviderRequest
{
	char *url;
	char *headers[PROVIDER_MAX_HEADERS]; /* "Name: value" */
	int n_headers;
	char *body;
} ProviderRequest;

typedef struct ProviderFormat
{
	/* False: the request cannot be made; error says why (static text). */
	bool (*request)(const ProviderAsk *ask, ProviderRequest *request, const char **error);
	/* One event of the answer. */
	void (*event)(Stream *stream, const char *name, const char *data, size_t len);
	bool is_eventstream; /* events come in AWS's event stream; else server-sent */
} ProviderFormat;

/* The format that a provider's model speaks; NULL: none that is built. */
const ProviderFormat *provider_format(const char *provider, const char *model);

/* How people call it. */
const char *provider_display_name(const char *provider);

void provider_request_free(ProviderRequest *request);

/* What an error's body says: the message of {"error": {"message"}} in the shapes that are about, else its text; malloc'ed. */
char *provider_error_text(const char *body, size_t len);

/* Shared by the formats. */
bool provider_add_header(ProviderRequest *request, const char *name, const char *value);
/* base (or def where it is ""), without last slashes, and path; malloc'ed. */
char *provider_url(const char *base, const char *def, const char *path);
/* The text of a message's parts of type text, joined by line feeds; malloc'ed. */
char *provider_text_of(const json_t *content);
/* The result of a tool-result part as the text that a model reads; malloc'ed. */
char *provider_result_text(const json_t *part);

/* Is the result of a tool a picture that models read?  Then its type and its base64; the text only names it. */
bool provider_result_picture(const json_t *part, const char **media_type, const char **data);

/* What a file-reference part says, as text; a new string. */
json_t *provider_reference_text(const json_t *part);
/* "image/png" and the data of a file part that a model can see; false: it is none. */
bool provider_file_data(const json_t *part, const char **media_type, const char **data);
/* Does this model of OpenAI's think before it answers?  They name some options otherwise. */
bool provider_openai_thinks(const char *model);
/* The URL of a path of OpenAI's, Azure's or another's API that follows them; NULL with error where there is none. */
char *provider_openai_url(const ProviderAsk *ask, const char *path, const char **error);
/* Anthropic's body of a request, without model and stream. */
json_t *provider_anthropic_body(const ProviderAsk *ask);
/* Puts the options of own into body: those that names lists as {as it is stored, as it is sent}, up to NULL. */
void provider_options(json_t *body, const json_t *own, const char *const names[][2]);
/* The HTTP status that a provider's code or type of an error stands for; 0: none that is known. */
int provider_error_status(const char *code);
/* Fails the stream where an answer, as JSON, tells of an error: {"error": {"message", "code", "type"}} or {"error": "..."}. */
void provider_fail(Stream *stream, const json_t *root);
/* Does a model of this provider keep its answers, as it is configured? */
bool provider_keeps_answers(const char *provider, const char *model, const json_t *options);
/* The tool that the answer is to be the arguments of, as a schema that OpenAI holds models to: {name, strict, schema}; NULL: none. */
json_t *provider_openai_schema(const ProviderAsk *ask);
/* The header that OpenAI's and Azure's APIs know the caller by. */
bool provider_openai_key(const ProviderAsk *ask, ProviderRequest *request);

extern const ProviderFormat provider_chat_completions;
extern const ProviderFormat provider_responses;
extern const ProviderFormat provider_anthropic;
extern const ProviderFormat provider_google;
extern const ProviderFormat provider_bedrock;

#endif
