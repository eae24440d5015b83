-- A user's credits: the sum of the ledger, and nothing else.
CREATE FUNCTION unitask.balance(p_user_id uuid) RETURNS numeric
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(amount), 0) FROM credit_ledger WHERE user_id = p_user_id
$$;
