/*
 * static.c -- what a static coder lacks: GSSAPI.
 *
 * libssh's archive refers to it, and Debian has no archive of it.  Neither
 * agent nor client offers Kerberos, so that every call fails as "unavailable"
 * (releases succeed).  libssh passes more arguments than the minor status; the
 * calling conventions of our platforms let a function ignore them.
 *
 * SPDX-License-Identifier: MIT
 */
#define UNAVAILABLE (16u << 16) /* GSS_S_UNAVAILABLE */

#define GSS_FUNCTION(name, result)                                                                 \
	unsigned int name(unsigned int *minor);                                                        \
	unsigned int name(unsigned int *minor)                                                         \
	{                                                                                              \
		*minor = 0;                                                                                \
		return result;                                                                             \
	}

#define GSS_NAME_TYPE(name)                                                                        \
	extern void *name;                                                                             \
	void *name

GSS_FUNCTION(gss_accept_sec_context, UNAVAILABLE)
GSS_FUNCTION(gss_acquire_cred, UNAVAILABLE)
GSS_FUNCTION(gss_add_oid_set_member, UNAVAILABLE)
GSS_FUNCTION(gss_create_empty_oid_set, UNAVAILABLE)
GSS_FUNCTION(gss_display_name, UNAVAILABLE)
GSS_FUNCTION(gss_display_status, UNAVAILABLE)
GSS_FUNCTION(gss_get_mic, UNAVAILABLE)
GSS_FUNCTION(gss_import_name, UNAVAILABLE)
GSS_FUNCTION(gss_indicate_mechs, UNAVAILABLE)
GSS_FUNCTION(gss_init_sec_context, UNAVAILABLE)
GSS_FUNCTION(gss_inquire_cred, UNAVAILABLE)
GSS_FUNCTION(gss_inquire_cred_by_mech, UNAVAILABLE)
GSS_FUNCTION(gss_release_buffer, 0)
GSS_FUNCTION(gss_release_cred, 0)
GSS_FUNCTION(gss_release_name, 0)
GSS_FUNCTION(gss_release_oid_set, 0)
GSS_FUNCTION(gss_test_oid_set_member, UNAVAILABLE)
GSS_FUNCTION(gss_verify_mic, UNAVAILABLE)

GSS_NAME_TYPE(GSS_C_NT_HOSTBASED_SERVICE);
GSS_NAME_TYPE(GSS_C_NT_USER_NAME);
