-- Give a user credits. Answers the balance.
CREATE FUNCTION unitask.grant_credits(p_user_id uuid, p_amount numeric, p_reason text) RETURNS numeric
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO credit_ledger (user_id, kind, amount, details)
    VALUES (p_user_id, 'grant', p_amount, jsonb_build_object('reason', p_reason));
    RETURN unitask.balance(p_user_id);
END $$;
