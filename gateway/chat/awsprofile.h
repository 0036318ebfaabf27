/*
 * awsprofile.h -- keys of AWS as files and services tell them.
 *
 * No I/O and no clock.  Keys are one text, "<access key id>:<secret access key>[:<session token>]", as a provider's key is
 * configured and sigv4.h's caller takes it apart.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_AWSPROFILE_H
#define GATEWAY_CHAT_AWSPROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define AWS_REGION_MAX 32

/* Is a key of a provider such a text? */
bool aws_is_key(const char *key);

/* One text of three; token may be NULL or "".  malloc'ed; NULL where they are none that can be. */
char *aws_key(const char *id, const char *secret, const char *token);

/*
 * What a profile of a shared file holds: ~/.aws/credentials calls it [name], ~/.aws/config [profile name] or [default].
 * *key (malloc'ed) and region are left as they are where the profile does not have them.
 */
void aws_profile_read(const char *text, const char *profile, char **key, char region[AWS_REGION_MAX]);

/*
 * What the services of containers and instances answer: {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}; and that for
 * roles of web identities, which has the same within, with "SessionToken" and a number of seconds.
 * malloc'ed; NULL: no keys.  *expires is 0 where they do not.
 */
char *aws_answer_read(const char *body, size_t len, time_t *expires);

/* May keys be asked for at this address?  By TLS, or on this machine, or at the addresses of AWS's services for containers. */
bool aws_container_url(const char *url);

#endif
