/*
 * provisioner.h -- what coder-server uses of the provisioner
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_PROVISIONER_H
#define CODER_PROVISIONER_H

/* coder-server provisioner …; argv[0] is "provisioner". */
extern int provisioner_main(int argc, char **argv);

#endif /* CODER_PROVISIONER_H */
