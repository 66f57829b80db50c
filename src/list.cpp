/*
 * Arrays: a value for each element, by the mapping of the elements' type, and the array's dimensions where they are not
 * just its length. Elements are converted one by one, so that memory is what they take on the wire, and no more.
 */
#include "value.h"

extern "C" {
#include "utils/arrayaccess.h"
}

using siphon::ValueKind;
using siphon::Wire;
using siphon::WireBuffer;

/* Calls put(value) for each element. What converting it took is freed afterwards. */
template <typename Put>
static void
each_element(const ArrayType *array, TypeMapping *element, Put put)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "siphon array element", ALLOCSET_SMALL_SIZES);
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	array_iter iter;

	array_iter_setup(&iter, reinterpret_cast<AnyArrayType *>(const_cast<ArrayType *>(array)));
	for (int i = 0; i < count; i++)
	{
		bool isnull;
		Datum datum = array_iter_next(&iter, &isnull, i, element->length, element->by_value, element->align);

		MemoryContextSwitchTo(context);
		put(value_from_datum(element, datum, isnull));
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* An array with one dimension that begins at 1, as nearly all do, has nothing to say of it. So has one without any. */
static bool
is_plain(const ArrayType *array)
{
	return ARR_NDIM(array) == 0 || (ARR_NDIM(array) == 1 && ARR_LBOUND(array)[0] == 1);
}

static void
put_dimensions(WireBuffer *out, const ArrayType *array)
{
	buffer_reserve(out, siphon::kDimensionMax * MAXDIM);
	Wire wire(out);
	for (int i = 0; i < ARR_NDIM(array); i++)
		wire.dimension(static_cast<uint32>(ARR_DIMS(array)[i]), ARR_LBOUND(array)[i]);
	wire.commit();
}

Value
list_value(TypeMapping *type, Datum datum)
{
	const ArrayType *array = DatumGetArrayTypeP(datum);
	ListValue *list = static_cast<ListValue *>(palloc(sizeof(ListValue)));
	WireBuffer *message = &list->message;
	Value value;

	/* The stack is as deep as domains over arrays of domains over arrays go. */
	check_stack_depth();
	list->array = array;
	list->element = type->element;
	buffer_init(message, 256);
	each_element(array, type->element, [message](const Value &element) {
		buffer_reserve(message, value_bound(element));
		Wire wire(message);
		value_write(&wire, siphon::field::kListValues, element);
		wire.commit();
	});
	if (!is_plain(array))
		put_dimensions(message, array);
	value.kind = ValueKind::List;
	value.list = list;
	return value;
}

static void
put_uint32(WireBuffer *out, uint32 number)
{
	buffer_reserve(out, sizeof(number));
	memcpy(out->data + out->size, &number, sizeof(number));
	out->size += sizeof(number);
}

/*
 * Its dimensions and all of its elements, as the wire contract says. Arrays are equal in PostgreSQL when these are.
 * `out` may move while it grows, so the length goes in front at the end.
 */
void
hash_list(WireBuffer *out, const ListValue *list)
{
	const ArrayType *array = list->array;
	size_t start = out->size;
	uint32 length;

	put_uint32(out, 0);
	put_uint32(out, static_cast<uint32>(ARR_NDIM(array)));
	for (int i = 0; i < ARR_NDIM(array); i++)
	{
		put_uint32(out, static_cast<uint32>(ARR_DIMS(array)[i]));
		put_uint32(out, static_cast<uint32>(ARR_LBOUND(array)[i]));
	}
	each_element(array, list->element, [out](const Value &element) { hash_value(out, element); });
	length = static_cast<uint32>(out->size - start - sizeof(length));
	memcpy(out->data + start, &length, sizeof(length));
}
