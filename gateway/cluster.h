/*
 * cluster.h -- the embedded PostgreSQL: a cluster of our own below the config folder.
 *
 * Used by the main thread only: the server dies with the thread that forked it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CLUSTER_H
#define GATEWAY_CLUSTER_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct GwCluster GwCluster;

/* Makes the cluster if there is none and starts it.  NULL after a message. */
GwCluster *gw_cluster_start(const char *config_dir, const char *bindir);

/* libpq connection string of database name. */
char *gw_cluster_conninfo(const GwCluster *cluster, const char *dbname);

/* A child has ended: true if it was the server, which then wants gw_cluster_restart(). */
bool gw_cluster_reaped(GwCluster *cluster, pid_t pid);
bool gw_cluster_restart(GwCluster *cluster);

pid_t gw_cluster_pid(const GwCluster *cluster);

/* Fast shutdown, at most 30 s, then an immediate one. */
void gw_cluster_stop(GwCluster *cluster);

#endif
