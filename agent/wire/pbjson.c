/*
 * pbjson.c -- protobuf messages as JSON and back.
 *
 * A map is what protobuf-c makes of one: a repeated message with the members
 * key (1) and value (2) whose name ends in "Entry".
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/pbjson.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wire/hex.h"

typedef struct Context
{
	char *error;
	size_t error_size;
} Context;

static const char TIMESTAMP[] = "google.protobuf.Timestamp";
static const char DURATION[] = "google.protobuf.Duration";

/* Field 1 and 2 of Timestamp and Duration have the same layout. */
typedef struct SecondsNanos
{
	ProtobufCMessage base;
	int64_t seconds;
	int32_t nanos;
} SecondsNanos;

static bool
is_type(const ProtobufCMessageDescriptor *descriptor, const char *name)
{
	return strcmp(descriptor->name, name) == 0;
}

static bool
is_map(const ProtobufCFieldDescriptor *field)
{
	const ProtobufCMessageDescriptor *d = field->descriptor;
	size_t len;

	if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	len = strlen(d->name);
	return len > 5 && strcmp(d->name + len - 5, "Entry") == 0 && d->n_fields == 2 && d->fields[0].id == 1 &&
		strcmp(d->fields[0].name, "key") == 0 && strcmp(d->fields[1].name, "value") == 0;
}

static size_t
element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_SINT32:
		case PROTOBUF_C_TYPE_INT32:
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_SFIXED32:
		case PROTOBUF_C_TYPE_FIXED32:
		case PROTOBUF_C_TYPE_FLOAT:
		case PROTOBUF_C_TYPE_ENUM:
			return 4;
		case PROTOBUF_C_TYPE_BOOL:
			return sizeof(protobuf_c_boolean);
		case PROTOBUF_C_TYPE_STRING:
		case PROTOBUF_C_TYPE_MESSAGE:
			return sizeof(void *);
		case PROTOBUF_C_TYPE_BYTES:
			return sizeof(ProtobufCBinaryData);
		default:
			return 8;
	}
}

static json_t *
hex_json(const ProtobufCBinaryData *bytes)
{
	static const char digits[] = "0123456789abcdef";
	char *text = malloc(2 * bytes->len + 1);
	json_t *value;

	if (text == NULL)
		return NULL;
	for (size_t i = 0; i < bytes->len; i++)
	{
		text[2 * i] = digits[bytes->data[i] >> 4];
		text[2 * i + 1] = digits[bytes->data[i] & 15];
	}
	value = json_stringn(text, 2 * bytes->len);
	free(text);
	return value;
}

static json_t *
enum_json(const ProtobufCEnumDescriptor *descriptor, int number)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);

	return value != NULL ? json_string(value->name) : json_integer(number);
}

static json_t *
timestamp_json(const SecondsNanos *t)
{
	time_t seconds = (time_t) t->seconds;
	struct tm tm;
	char text[64];
	size_t n;

	if (t->nanos < 0 || t->nanos > 999999999 || gmtime_r(&seconds, &tm) == NULL || tm.tm_year < -1899 || tm.tm_year > 8099)
		return json_null();
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	/* A year before 1000 comes without its zeros. */
	if (tm.tm_year + 1900 < 1000)
		n = (size_t) snprintf(text,
							  sizeof(text),
							  "%04d-%02d-%02dT%02d:%02d:%02d",
							  tm.tm_year + 1900,
							  tm.tm_mon + 1,
							  tm.tm_mday,
							  tm.tm_hour,
							  tm.tm_min,
							  tm.tm_sec);
	snprintf(text + n, sizeof(text) - n, ".%09" PRId32 "Z", t->nanos);
	return json_string(text);
}

static json_t *message_json(const ProtobufCMessage *message, int depth);

static json_t *
value_json(const ProtobufCFieldDescriptor *field, const void *at, int depth)
{
	const char *text;

	switch (field->type)
	{
		case PROTOBUF_C_TYPE_SINT32:
		case PROTOBUF_C_TYPE_INT32:
		case PROTOBUF_C_TYPE_SFIXED32:
			return json_integer(*(const int32_t *) at);
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_FIXED32:
			return json_integer(*(const uint32_t *) at);
		case PROTOBUF_C_TYPE_SINT64:
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_SFIXED64:
			return json_integer(*(const int64_t *) at);
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
			return json_integer((json_int_t) * (const uint64_t *) at);
		case PROTOBUF_C_TYPE_FLOAT:
			return json_real((double) *(const float *) at);
		case PROTOBUF_C_TYPE_DOUBLE:
		{
			json_t *real = json_real(*(const double *) at);

			return real != NULL ? real : json_null(); /* not a number */
		}
		case PROTOBUF_C_TYPE_BOOL:
			return json_boolean(*(const protobuf_c_boolean *) at);
		case PROTOBUF_C_TYPE_ENUM:
			return enum_json(field->descriptor, *(const int *) at);
		case PROTOBUF_C_TYPE_STRING:
			text = *(const char *const *) at;
			return json_string(text != NULL ? text : "");
		case PROTOBUF_C_TYPE_BYTES:
			return hex_json(at);
		case PROTOBUF_C_TYPE_MESSAGE:
			return message_json(*(const ProtobufCMessage *const *) at, depth + 1);
	}
	return NULL;
}

static bool
map_entry_json(json_t *object, const ProtobufCMessage *entry, int depth)
{
	const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;
	const char *base = (const char *) entry;
	json_t *key = value_json(&fields[0], base + fields[0].offset, depth);
	json_t *value = NULL;
	char number[32];
	const char *name = json_string_value(key);
	bool ok;

	if (fields[1].type == PROTOBUF_C_TYPE_MESSAGE && *(void *const *) (base + fields[1].offset) == NULL)
		value = json_object();
	else
		value = value_json(&fields[1], base + fields[1].offset, depth);
	if (json_is_integer(key))
	{
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(key));
		name = number;
	}
	ok = name != NULL && json_object_set(object, name, value) == 0;
	json_decref(key);
	json_decref(value);
	return ok;
}

static json_t *
repeated_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, int depth)
{
	const char *base = (const char *) message;
	size_t n = *(const size_t *) (base + field->quantifier_offset);
	const char *elements = *(const char *const *) (base + field->offset);
	size_t size = element_size(field);
	bool map = is_map(field);
	json_t *result = map ? json_object() : json_array();

	for (size_t i = 0; result != NULL && i < n; i++)
	{
		const void *at = elements + i * size;
		bool ok = map ? map_entry_json(result, *(const ProtobufCMessage *const *) at, depth + 1)
					  : json_array_append_new(result, value_json(field, at, depth)) == 0;

		if (!ok)
		{
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

/* Is the field set, as far as its kind knows of being unset? */
static bool
is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	const char *base = (const char *) message;

	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *) (base + field->quantifier_offset) == field->id;
	if (field->type == PROTOBUF_C_TYPE_MESSAGE)
		return *(void *const *) (base + field->offset) != NULL;
	return true;
}

static json_t *
message_json(const ProtobufCMessage *message, int depth)
{
	const ProtobufCMessageDescriptor *descriptor = message->descriptor;
	json_t *object;

	if (depth > PBJSON_MAX_DEPTH)
		return NULL;
	if (is_type(descriptor, TIMESTAMP))
		return timestamp_json((const SecondsNanos *) message);
	if (is_type(descriptor, DURATION))
	{
		const SecondsNanos *d = (const SecondsNanos *) message;
		int64_t nanoseconds;

		if (__builtin_mul_overflow(d->seconds, 1000000000, &nanoseconds) ||
			__builtin_add_overflow(nanoseconds, d->nanos, &nanoseconds))
			return json_null();
		return json_integer(nanoseconds);
	}
	object = json_object();
	for (unsigned i = 0; object != NULL && i < descriptor->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		json_t *value;

		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			value = repeated_json(message, field, depth);
		else if (!is_present(message, field))
			continue;
		else
			value = value_json(field, (const char *) message + field->offset, depth);
		if (json_object_set_new(object, field->name, value) != 0)
		{
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

json_t *
pbjson_from_message(const ProtobufCMessage *message)
{
	return message_json(message, 0);
}

static bool
fail(Context *context, const char *name, const char *what)
{
	snprintf(context->error, context->error_size, "%s: %s", name, what);
	return false;
}

static bool
set_bytes(Context *context, const char *name, ProtobufCBinaryData *bytes, const char *text)
{
	size_t n = strlen(text);
	int high = -1;

	bytes->data = malloc(n / 2 + 1);
	bytes->len = 0;
	if (bytes->data == NULL)
		return fail(context, name, "out of memory");
	for (const char *p = text; *p != '\0'; p++)
	{
		int digit = wire_hex_value(*p);

		if (*p == '-')
			continue;
		if (digit < 0)
			break;
		if (high < 0)
			high = digit;
		else
		{
			bytes->data[bytes->len++] = (uint8_t) (high << 4 | digit);
			high = -1;
		}
	}
	if (high < 0 && strspn(text, "0123456789abcdefABCDEF-") == n)
		return true;
	free(bytes->data);
	bytes->data = NULL;
	bytes->len = 0;
	return fail(context, name, "hexadecimal text expected");
}

static bool
set_timestamp(Context *context, const char *name, SecondsNanos *t, const char *text)
{
	struct tm tm = {0};
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int32_t scale = 100000000;
	int sign;
	int hours;
	int minutes;

	if (p == NULL)
		return fail(context, name, "time expected");
	t->seconds = timegm(&tm);
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++)
		{
			t->nanos += (*p - '0') * scale;
			scale /= 10;
		}
	if (strcmp(p, "Z") == 0)
		return true;
	sign = *p == '-' ? -1 : 1;
	if ((*p != '+' && *p != '-') || sscanf(p + 1, "%2d:%2d", &hours, &minutes) != 2)
		return fail(context, name, "time with Z or an offset expected");
	t->seconds -= sign * (hours * 3600 + minutes * 60);
	return true;
}

static bool
set_enum(Context *context, const ProtobufCFieldDescriptor *field, int *at, const json_t *value)
{
	const ProtobufCEnumValue *known;

	if (json_is_integer(value))
	{
		*at = (int) json_integer_value(value);
		return true;
	}
	known = json_is_string(value) ? protobuf_c_enum_descriptor_get_value_by_name(field->descriptor, json_string_value(value))
								  : NULL;
	if (known == NULL)
		return fail(context, field->name, "unknown value name");
	*at = known->value;
	return true;
}

static ProtobufCMessage *make_message(Context *context,
									  const ProtobufCMessageDescriptor *descriptor,
									  const json_t *value,
									  int depth);

static bool
set_integer(Context *context, const ProtobufCFieldDescriptor *field, void *at, const json_t *value)
{
	json_int_t n = json_is_real(value) ? (json_int_t) json_real_value(value) : json_integer_value(value);
	size_t size = element_size(field);
	bool is_unsigned = field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_FIXED32;

	if (!json_is_number(value))
		return fail(context, field->name, "number expected");
	if (size == 4 && (is_unsigned ? n < 0 || n > UINT32_MAX : n < INT32_MIN || n > INT32_MAX))
		return fail(context, field->name, "number out of range");
	if (size == 4)
		*(uint32_t *) at = (uint32_t) n;
	else
		*(uint64_t *) at = (uint64_t) n;
	return true;
}

/* One value into the message's memory at; strings and the like become the message's own. */
static bool
set_value(Context *context, const ProtobufCFieldDescriptor *field, void *at, const json_t *value, int depth)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_FLOAT:
		case PROTOBUF_C_TYPE_DOUBLE:
			if (!json_is_number(value))
				return fail(context, field->name, "number expected");
			if (field->type == PROTOBUF_C_TYPE_FLOAT)
				*(float *) at = (float) json_number_value(value);
			else
				*(double *) at = json_number_value(value);
			return true;
		case PROTOBUF_C_TYPE_BOOL:
			if (!json_is_boolean(value))
				return fail(context, field->name, "true or false expected");
			*(protobuf_c_boolean *) at = json_is_true(value);
			return true;
		case PROTOBUF_C_TYPE_ENUM:
			return set_enum(context, field, at, value);
		case PROTOBUF_C_TYPE_STRING:
			if (!json_is_string(value))
				return fail(context, field->name, "text expected");
			*(char **) at = strdup(json_string_value(value));
			return *(char **) at != NULL || fail(context, field->name, "out of memory");
		case PROTOBUF_C_TYPE_BYTES:
			if (!json_is_string(value))
				return fail(context, field->name, "hexadecimal text expected");
			return set_bytes(context, field->name, at, json_string_value(value));
		case PROTOBUF_C_TYPE_MESSAGE:
			*(ProtobufCMessage **) at = make_message(context, field->descriptor, value, depth + 1);
			return *(ProtobufCMessage **) at != NULL;
		default:
			return set_integer(context, field, at, value);
	}
}

/* {"key": value} of a map as an entry message. */
static ProtobufCMessage *
make_entry(Context *context, const ProtobufCMessageDescriptor *descriptor, const char *key, const json_t *value, int depth)
{
	bool numeric = descriptor->fields[0].type != PROTOBUF_C_TYPE_STRING;
	json_t *entry = json_pack("{s:o, s:O}",
							  "key",
							  numeric ? json_integer(strtoll(key, NULL, 10)) : json_string(key),
							  "value",
							  (json_t *) value);
	ProtobufCMessage *message = entry ? make_message(context, descriptor, entry, depth + 1) : NULL;

	json_decref(entry);
	return message;
}

static bool
set_repeated(Context *context, const ProtobufCFieldDescriptor *field, char *base, const json_t *value, int depth)
{
	size_t *n = (size_t *) (base + field->quantifier_offset);
	size_t size = element_size(field);
	size_t count = is_map(field) ? json_object_size(value) : json_array_size(value);
	char *elements;
	const char *key;
	json_t *element;
	size_t i;

	if (is_map(field) ? !json_is_object(value) : !json_is_array(value))
		return fail(context, field->name, is_map(field) ? "object expected" : "array expected");
	if (count == 0)
		return true;
	elements = calloc(count, size);
	if (elements == NULL)
		return fail(context, field->name, "out of memory");
	*(char **) (base + field->offset) = elements;
	if (!is_map(field))
	{
		json_array_foreach(value, i, element)
		{
			if (!set_value(context, field, elements + i * size, element, depth))
				return false;
			*n = i + 1;
		}
		return true;
	}
	json_object_foreach((json_t *) value, key, element)
	{
		ProtobufCMessage *entry = make_entry(context, field->descriptor, key, element, depth);

		if (entry == NULL)
			return false;
		((ProtobufCMessage **) elements)[(*n)++] = entry;
	}
	return true;
}

static bool
set_field(Context *context, const ProtobufCFieldDescriptor *field, char *base, const json_t *value, int depth)
{
	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return set_repeated(context, field, base, value, depth);
	if (!set_value(context, field, base + field->offset, value, depth))
		return false;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		*(uint32_t *) (base + field->quantifier_offset) = field->id;
	return true;
}

static ProtobufCMessage *
make_message(Context *context, const ProtobufCMessageDescriptor *descriptor, const json_t *value, int depth)
{
	ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);
	bool ok = message != NULL;

	if (depth > PBJSON_MAX_DEPTH || !ok)
	{
		free(message);
		fail(context, descriptor->short_name, "nested too deep");
		return NULL;
	}
	protobuf_c_message_init(descriptor, message);
	if (is_type(descriptor, TIMESTAMP))
		ok = json_is_string(value) ? set_timestamp(context, descriptor->short_name, (SecondsNanos *) message, json_string_value(value))
								   : fail(context, descriptor->short_name, "time expected");
	else if (is_type(descriptor, DURATION))
	{
		((SecondsNanos *) message)->seconds = json_integer_value(value) / 1000000000;
		((SecondsNanos *) message)->nanos = (int32_t) (json_integer_value(value) % 1000000000);
		ok = json_is_integer(value) || fail(context, descriptor->short_name, "integer of nanoseconds expected");
	}
	else if (!json_is_object(value))
		ok = fail(context, descriptor->short_name, "object expected");
	else
		for (unsigned i = 0; ok && i < descriptor->n_fields; i++)
		{
			const json_t *member = json_object_get(value, descriptor->fields[i].name);

			if (member != NULL && !json_is_null(member))
				ok = set_field(context, &descriptor->fields[i], (char *) message, member, depth);
		}
	if (ok)
		return message;
	protobuf_c_message_free_unpacked(message, NULL);
	return NULL;
}

ProtobufCMessage *
pbjson_to_message(const ProtobufCMessageDescriptor *descriptor, const json_t *object, char *error, size_t error_size)
{
	Context context = {error, error_size};

	return make_message(&context, descriptor, object, 0);
}

json_t *
pbjson_decode(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size)
{
	ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, size, data);
	json_t *object;

	if (message == NULL)
		return NULL;
	object = pbjson_from_message(message);
	protobuf_c_message_free_unpacked(message, NULL);
	return object;
}

uint8_t *
pbjson_encode(const ProtobufCMessageDescriptor *descriptor, const json_t *object, size_t *size, char *error, size_t error_size)
{
	ProtobufCMessage *message = pbjson_to_message(descriptor, object, error, error_size);
	uint8_t *data;

	if (message == NULL)
		return NULL;
	*size = protobuf_c_message_get_packed_size(message);
	data = malloc(*size + 1);
	if (data != NULL)
		protobuf_c_message_pack(message, data);
	protobuf_c_message_free_unpacked(message, NULL);
	return data;
}
