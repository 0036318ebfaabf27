// The states of chats, in words and colours.
//
// SPDX-License-Identifier: MIT
import { type ChatStatus, isBusy } from "./types";

const WORDS: Partial<Record<ChatStatus, string>> = { waiting: "idle", requires_action: "needs an answer" };
export const statusWord = (status: ChatStatus) => WORDS[status] ?? status;
export const statusTone = (status: ChatStatus) => (isBusy(status) || status === "requires_action" ? "busy" : status === "error" ? "bad" : "idle");
