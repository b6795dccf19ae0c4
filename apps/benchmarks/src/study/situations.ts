/** What is asked of each text. Each question wants more than one place of the text, so that no single key decides. */
import { type EvaluationText, evaluationTexts } from '../evaluation-texts.js';

export type SituationKind = EvaluationText | 'dialogue';

export const situationKinds: readonly SituationKind[] = [...evaluationTexts, 'dialogue'];

/** The text of a dialogue is the prose; its questions are asked one after another. */
export const situations: Readonly<
  Record<SituationKind, { readonly text: EvaluationText; readonly questions: readonly [string, ...string[]] }>
> = {
  prose: { text: 'prose', questions: ['Summarise in detail what happens in the text above.'] },
  manual: { text: 'manual', questions: ['Explain what the commands above do and which options they share.'] },
  code: { text: 'code', questions: ['Describe the functions of the code above and how they use each other.'] },
  dialogue: {
    text: 'prose',
    questions: [
      'Who tells the story, and why does he go to sea?',
      'Describe the room where he sleeps and whom he shares it with.',
      'What does he think of that man afterwards, and what do they do together?',
    ],
  },
};
