import { describeTokenRefiner } from '@ctkvr/testkit';
import { TokenRefiner } from '../src/index.js';

describeTokenRefiner(async ({ data, options }) => {
  const { keys, values, headDim, groupSize } = data;
  const { numSinkTokens, recentWindow, maxSelected, topP } = options;
  return new TokenRefiner({
    keys,
    values,
    headDim,
    groupSize,
    numSinkTokens,
    recentWindow,
    maxSelected,
    topP,
    backend: 'reference',
  });
});
