import { type Answer, isRunning } from '../state/conversation.js';
import { AnswerText } from './answer-text.js';
import { Figures } from './figures.js';
import { FailureText } from './notice.js';
import { WhatWasRead } from './what-was-read.js';

interface AnswerViewProps {
  /** Which one of the conversation it is. */
  readonly turn: number;
  readonly answer: Answer;
  /** null = a chat without a document. */
  readonly documentId: string | null;
  readonly isNewest: boolean;
}

/** One answer: its text, what was read for it, and its figures. */
export function AnswerView({ turn, answer, documentId, isNewest }: AnswerViewProps) {
  const { state, failure, isCut } = answer;
  return (
    <div class="answer">
      {state === 'waiting' && <p class="pending">Waiting for the model</p>}
      {state === 'thinking' && <p class="pending">The model is thinking</p>}
      {answer.tokens.length > 0 && <AnswerText turn={turn} answer={answer} />}
      {state === 'stopped' && <p class="hint">Stopped.</p>}
      {isCut && <p class="hint">The answer was cut: no more tokens fit into the context.</p>}
      {failure !== null && (
        <div class="failure" role="alert">
          <FailureText failure={failure} />
        </div>
      )}
      {documentId !== null && answer.readMaps.some((map) => map.length > 0) && (
        <WhatWasRead turn={turn} answer={answer} documentId={documentId} isOpen={isNewest && !isRunning(answer)} />
      )}
      {answer.tokens.length > 0 && <Figures answer={answer} />}
    </div>
  );
}
