// A message that is spoken, where the browser can write down what it hears.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

interface Heard {
  resultIndex: number;
  results: ArrayLike<ArrayLike<{ transcript: string }> & { isFinal: boolean }>;
}

interface Recognition {
  continuous: boolean;
  interimResults: boolean;
  lang: string;
  onresult: (event: Heard) => void;
  onerror: (event: { error: string }) => void;
  onend: () => void;
  start: () => void;
  stop: () => void;
  abort: () => void;
}

type Maker = new () => Recognition;

/** The browser's own; some send what they hear to their maker. */
const recognizer = () => {
  const w = window as unknown as { SpeechRecognition?: Maker; webkitSpeechRecognition?: Maker };
  return w.SpeechRecognition ?? w.webkitSpeechRecognition;
};

const PROBLEMS: Record<string, string> = {
  "not-allowed": "This browser does not let the page listen.",
  "service-not-allowed": "This browser does not let the page listen.",
  "audio-capture": "There is no microphone.",
  network: "The browser's recognizer cannot be reached.",
};

/** text: what is written already; what is heard comes behind it. */
export function VoiceButton({ text, onText }: { text: string; onText: (text: string) => void }) {
  const [listening, setListening] = useState(false);
  const [problem, setProblem] = useState<string>();
  const voice = useRef<Recognition>();
  const write = useRef(onText);
  write.current = onText;
  useEffect(() => () => voice.current?.abort(), []);
  const begin = useCallback(() => {
    const Maker = recognizer();
    if (!Maker) return;
    const before = text && !/\s$/.test(text) ? `${text} ` : text;
    const one = (voice.current = new Maker());
    one.continuous = true;
    one.interimResults = true;
    one.lang = navigator.language;
    one.onresult = ({ results }) => write.current(before + Array.from(results, (r) => r[0].transcript).join(""));
    one.onerror = ({ error }) => setProblem(PROBLEMS[error]);
    one.onend = () => setListening(false);
    setProblem(undefined);
    setListening(true);
    one.start();
  }, [text]);
  if (!recognizer()) return null;
  return (
    <>
      <button type="button" class="plain" aria-pressed={listening} aria-label="Dictate" title="Dictate; your browser writes it down, and may ask its maker to" onClick={() => (listening ? voice.current?.stop() : begin())}>
        <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
          <path d="M8 1.8a2 2 0 0 1 2 2v3.6a2 2 0 0 1-4 0V3.8a2 2 0 0 1 2-2ZM3.8 7.2a4.2 4.2 0 0 0 8.4 0M8 11.4v2.8" />
        </svg>
      </button>
      {problem && (
        <span class="problem" role="alert">
          {problem}
        </span>
      )}
    </>
  );
}
