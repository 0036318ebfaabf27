/*
 * error.h -- SQLSTATEs of class ZC: the last three characters are the HTTP status.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_ERROR_H
#define CODER_ERROR_H

#define CODER_ERRCODE(a, b, c) MAKE_SQLSTATE('Z', 'C', a, b, c)
#define ERRCODE_CODER_BAD_REQUEST CODER_ERRCODE('4', '0', '0')
#define ERRCODE_CODER_UNAUTHENTICATED CODER_ERRCODE('4', '0', '1')
#define ERRCODE_CODER_FORBIDDEN CODER_ERRCODE('4', '0', '3')
#define ERRCODE_CODER_NOT_FOUND CODER_ERRCODE('4', '0', '4')
#define ERRCODE_CODER_NOT_BUILT CODER_ERRCODE('5', '0', '1')

/* The API's own words. */
#define CODER_MSG_SIGN_IN                                                                          \
	"You are signed out or your session has expired. Please sign in again to continue."
#define CODER_MSG_NOT_FOUND "Resource not found or you do not have access to this resource"
#define CODER_MSG_FORBIDDEN "Forbidden."
#define CODER_DETAIL_FORBIDDEN                                                                     \
	"You don't have permission to view this content. If you believe this is a mistake, please "    \
	"contact your administrator or try signing in with different credentials."

/* SQLSTATE ZCnnn of an HTTP status. */
extern int coder_errcode_of_status(int status);
extern void coder_raise_not_found(void) pg_attribute_noreturn();
extern void coder_raise_forbidden(void) pg_attribute_noreturn();

#endif
