// Characters that nobody sees: they may say to a model what its user does not know of.
//
// SPDX-License-Identifier: MIT

/** Zero widths, marks of direction, tags; not what joins an emoji. */
const INVISIBLE = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\u{e0000}-\u{e0fff}]|(?<!\p{Extended_Pictographic}\ufe0f?|\p{Emoji_Modifier})\u200d/gu;

export const invisibleIn = (text: string) => text.match(INVISIBLE)?.length ?? 0;
export const withoutInvisible = (text: string) => text.replace(INVISIBLE, "");

export function InvisibleNotice({ text, onClean }: { text: string; onClean: (text: string) => void }) {
  const n = invisibleIn(text);
  if (n === 0) return null;
  return (
    <div class="notice" role="status">
      The message has {n === 1 ? "a character" : `${n} characters`} that cannot be seen.{" "}
      <button type="button" class="small" onClick={() => onClean(withoutInvisible(text))}>
        Remove
      </button>
    </div>
  );
}
