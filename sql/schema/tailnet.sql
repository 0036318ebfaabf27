-- SPDX-License-Identifier: MIT
--
-- tailnet.sql
--   The tunnel network's shared state.  The coordinator itself lives in the
--   gateway: peers tell it everything again when they reconnect, so nothing
--   of it is stored here yet but the agents' nodes (workspaceagent.sql).

CREATE TYPE coder.tailnet_status AS ENUM ('ok', 'lost');
