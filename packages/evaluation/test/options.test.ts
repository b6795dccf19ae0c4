import { describeOptions } from '@ctkvr/testkit';
import * as evaluation from '../src/index.js';

const of = (more: object) => more as never;

describeOptions(
  evaluation,
  {
    fitPrompt: (more) => evaluation.fitPrompt(of(more)),
    measureFidelity: (more) => evaluation.measureFidelity(of(more)),
    measureTurns: (more) => evaluation.measureTurns(of(more)),
    measureSelector: (more) => evaluation.measureSelector(of(more)),
    denseReference: (more) => evaluation.denseReference(of(more)),
  },
  ['argmax', 'klDivergence', 'numCentroidsOf', 'parseContender', 'significant', 'withMaxSelected'],
);
