/*
 * awskey.h -- the keys of AWS that this machine has of itself, for Bedrock without a configured one.
 *
 * In the order of AWS's own programs: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; the role AWS_ROLE_ARN for
 * the token in AWS_WEB_IDENTITY_TOKEN_FILE, as pods have them; the profile AWS_PROFILE ("default") of the shared files; the service of the container (AWS_CONTAINER_CREDENTIALS_*); the service of the instance,
 * version 2.  Keys that end are asked for again before they do, while somebody uses them.  One thread; nothing blocks but
 * the reading of two small files.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_AWSKEY_H
#define GATEWAY_CHAT_AWSKEY_H

#include <stdint.h>

typedef struct AwsWait AwsWait;

/* key: as in awsprofile.h, borrowed; NULL: there is none. */
typedef void (*AwsKeyDone)(void *arg, const char *key);

/* *known is set, borrowed, and NULL returned where keys are known; else done is called later, once, unless it is cancelled. */
AwsWait *awskey_find(const char **known, AwsKeyDone done, void *arg);

/* NULL is none. */
void awskey_cancel(AwsWait *wait);

/* The keys that were found, as they are now: others than those that awskey_find told of, where those have ended.  NULL: none. */
const char *awskey_now(void);

/* The region of the machine: AWS_REGION, AWS_DEFAULT_REGION or that of the profile; NULL: none is known. */
const char *awskey_region(void);

/* Asks again where keys end soon; ms until the next such time, at most most. */
int64_t awskey_tick(int64_t most);

/* The process ends. */
void awskey_drop_all(void);

#endif
