/*
 * lwipopts.h -- lwIP as the TCP inside the tunnel: IPv6 only, one thread, the
 * C library's heap, and windows fit for long paths.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_LWIPOPTS_H
#define TUNNEL_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_TIMERS 0 /* netstack.c runs the timers, and only while there are connections */
#define LWIP_NETIF_API 0
#define LWIP_STATS 0

#define LWIP_IPV4 0
#define LWIP_IPV6 1
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_UDP 0
#define LWIP_RAW 0
#define LWIP_TCP 1
#define LWIP_ICMP6 1
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define LWIP_IPV6_FORWARD 0
#define LWIP_IPV6_SCOPES 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_ND6_QUEUEING 0
#define LWIP_IPV6_NUM_ADDRESSES 8
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_SINGLE_NETIF 0

#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define MEMP_NUM_TCP_PCB 4096
#define PBUF_LINK_HLEN 0
#define PBUF_LINK_ENCAPSULATION_HLEN 0
#define PBUF_POOL_SIZE 0

/* MSS for the MTU of 1280, as the reference offers it. */
#define TCP_MSS 1220
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 6
#define TCP_WND (2 * 1024 * 1024)
#define TCP_SND_BUF (2 * 1024 * 1024)
#define TCP_SND_QUEUELEN 8192
#define MEMP_NUM_TCP_SEG 8192
#define TCP_SNDLOWAT 32768
#define TCP_SNDQUEUELOWAT 1024
#define TCP_OVERSIZE TCP_MSS
#define TCP_QUEUE_OOSEQ 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 4
#define LWIP_TCP_TIMESTAMPS 0
#define LWIP_TCP_KEEPALIVE 1
#define TCP_LISTEN_BACKLOG 1
#define TCP_DEFAULT_LISTEN_BACKLOG 128
#define TCP_TMR_INTERVAL 100 /* fast timer; retransmissions count in 200 ms */
#define TCP_WND_UPDATE_THRESHOLD (64 * 1024)
#define LWIP_TCP_RTO_TIME 1000

/* WireGuard's tag has already proven every byte that arrives. */
#define CHECKSUM_CHECK_IP 0
#define CHECKSUM_CHECK_TCP 0
#define CHECKSUM_CHECK_ICMP6 0
#define LWIP_CHKSUM_ALGORITHM 3

struct netif;
struct ip6_addr;
struct netif *netstack_route(const struct ip6_addr *src, const struct ip6_addr *dest);
#define LWIP_HOOK_IP6_ROUTE(src, dest) netstack_route((src), (dest))

#define LWIP_NOASSERT_UNUSED 0

/* A peer that went without a word is noticed after two minutes: it answers no probe. */
#define TCP_KEEPIDLE_DEFAULT 60000UL
#define TCP_KEEPINTVL_DEFAULT 15000UL
#define TCP_KEEPCNT_DEFAULT 4U

#endif
